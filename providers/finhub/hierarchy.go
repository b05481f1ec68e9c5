package finhub

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kycgate/kycgate/kyc"
)

// The hierarchy comes in five documented shapes (dossier B2.1, S1 to S5), which differ in four independent ways, so that
// is what is decoded:
//
//	the answer    in `data` or at the root
//	categories    a map by id or by code, or a list
//	features      in `features` or `availableFeatures`; a list of objects or of codes, or a map
//	their detail  inside the category, or beside it in a map or list of the hierarchy
//
// Where no category of a hierarchy lists any feature and there are some beside, as in S2, they belong to every category
// (ours: nothing in that example says otherwise, and without it S2 would name parameters nobody sends).

// Bounds of a hierarchy, ours: it is kept in memory for every tenant.
const (
	maxCategories = 1000
	maxFeatures   = 500
	maxKeys       = 500
	maxLabel      = 200
)

// decodeHierarchy reads any of the shapes; ok is false when it is none.
func decodeHierarchy(body []byte) (kyc.CategoryHierarchy, bool) {
	root, ok := members(body)
	if !ok {
		return kyc.CategoryHierarchy{}, false
	}
	if data, found := root.get("data"); found && !root.has("categories") {
		if root, ok = members(data); !ok {
			// A bare list of categories (ours).
			root = fields{{"categories", data}}
		}
	}
	raw, ok := root.get("categories")
	if !ok {
		return kyc.CategoryHierarchy{}, false
	}
	entries, ok := listOrMap(raw)
	if !ok || len(entries) > maxCategories {
		return kyc.CategoryHierarchy{}, false
	}
	h := kyc.CategoryHierarchy{TenantID: id(root.text("tenantId")), Categories: []kyc.CustomerCategory{}}
	if name := label(root.text("tenantName")); name != "" {
		h.TenantName = &name
	}
	beside := featuresBeside(root)
	listed := false
	for _, e := range entries {
		category, own, ok := decodeCategory(e, beside)
		if !ok {
			continue
		}
		listed = listed || own
		h.Categories = append(h.Categories, category)
	}
	if !listed {
		for i := range h.Categories {
			h.Categories[i].Features = slices.Clone(beside)
		}
	}
	return h, true
}

// decodeCategory reads one category; own tells whether it lists any feature. One without an id or a name is nothing a
// caller could choose and is left out.
func decodeCategory(e field, beside []kyc.CategoryFeature) (c kyc.CustomerCategory, own, ok bool) {
	f, ok := members(e.value)
	if !ok {
		return c, false, false
	}
	c = kyc.CustomerCategory{
		ID:          first(id(f.text("categoryId")), id(e.name), id(f.text("id")), id(f.text("databaseId"))),
		DatabaseID:  first(id(f.text("databaseId")), id(f.text("id")), id(f.text("categoryId")), id(e.name)),
		Name:        first(label(f.text("categoryName")), label(f.text("name"))),
		Description: label(f.text("description")),
	}
	if c.ID == "" {
		return c, false, false
	}
	c.Name = first(c.Name, c.ID)
	if risk := first(kyc.CodeLike(f.text("riskLevel")), kyc.RiskLevelOf(c.ID, e.name, c.Name)); risk != "" && risk != "unknown" {
		c.RiskLevel = &risk
	}
	c.Features = []kyc.CategoryFeature{}
	for _, name := range []string{"features", "availableFeatures"} {
		raw, _ := f.get(name)
		entries, ok := listOrMap(raw)
		if !ok || len(entries) > maxFeatures {
			continue
		}
		for _, entry := range entries {
			if feature, ok := decodeFeature(entry, beside); ok {
				c.Features = append(c.Features, feature)
				own = true
			}
		}
	}
	return c, own, true
}

// featuresBeside reads the features of the hierarchy itself.
func featuresBeside(root fields) []kyc.CategoryFeature {
	var out []kyc.CategoryFeature
	raw, _ := root.get("features")
	entries, ok := listOrMap(raw)
	if !ok || len(entries) > maxFeatures {
		return nil
	}
	for _, e := range entries {
		if f, ok := decodeFeature(e, nil); ok {
			out = append(out, f)
		}
	}
	return out
}

// decodeFeature reads a feature, or takes the one beside that a code or id names. What is said inside counts, what is
// not is taken from beside.
func decodeFeature(e field, beside []kyc.CategoryFeature) (kyc.CategoryFeature, bool) {
	f, ok := members(e.value)
	if !ok {
		var name text
		if json.Unmarshal(e.value, &name) != nil {
			return kyc.CategoryFeature{}, false
		}
		return named(beside, first(id(string(name)), id(e.name)))
	}
	code := first(id(f.text("featureCode")), id(f.text("code")), id(e.name), id(f.text("databaseId")), id(f.text("id")))
	if code == "" {
		return kyc.CategoryFeature{}, false
	}
	out := kyc.CategoryFeature{
		Code: code, ID: first(id(f.text("databaseId")), id(f.text("id"))), Enabled: true, Parameters: []kyc.Parameter{},
		MandatoryKeys: keys(f, "mandatoryKeys"), MultiValueKeys: keys(f, "multiValueKeys"), AllowedValues: allowedValues(f),
	}
	if name := first(label(f.text("featureName")), label(f.text("name"))); name != "" {
		out.Name = &name
	}
	if other, ok := named(beside, code); ok {
		out.ID = first(out.ID, other.ID)
		if out.Name == nil {
			out.Name = other.Name
		}
		if !f.has("mandatoryKeys") {
			out.MandatoryKeys = other.MandatoryKeys
		}
		if !f.has("multiValueKeys") {
			out.MultiValueKeys = other.MultiValueKeys
		}
		if !f.has("allowedValues") {
			out.AllowedValues = other.AllowedValues
		}
	}
	out.ID = first(out.ID, code)
	return out, true
}

func named(features []kyc.CategoryFeature, name string) (kyc.CategoryFeature, bool) {
	i := slices.IndexFunc(features, func(f kyc.CategoryFeature) bool { return f.Code == name || f.ID == name })
	if i < 0 || name == "" {
		return kyc.CategoryFeature{}, false
	}
	return features[i], true
}

func keys(f fields, name string) []string {
	out := []string{}
	raw, _ := f.get(name)
	var list words
	_ = json.Unmarshal(raw, &list) // what is no list is no key
	for _, k := range list {
		if k = label(k); k != "" && !slices.Contains(out, k) && len(out) < maxKeys {
			out = append(out, k)
		}
	}
	return out
}

func allowedValues(f fields) []kyc.AllowedValues {
	out := []kyc.AllowedValues{}
	raw, _ := f.get("allowedValues")
	entries, _ := members(raw)
	for _, e := range entries {
		var values words
		_ = json.Unmarshal(e.value, &values)
		if key := label(e.name); key != "" && len(values) > 0 && len(values) <= maxKeys && len(out) < maxKeys {
			a := kyc.AllowedValues{Key: key}
			for _, v := range values {
				if v = label(v); v != "" {
					a.Values = append(a.Values, v)
				}
			}
			if len(a.Values) > 0 {
				out = append(out, a)
			}
		}
	}
	return out
}

// fields are the members of an object in the order of the document: a map would shuffle what people read.
type fields []field

type field struct {
	name  string
	value json.RawMessage
}

func (f fields) get(name string) (json.RawMessage, bool) {
	for _, m := range f {
		if m.name == name {
			return m.value, true
		}
	}
	return nil, false
}

func (f fields) has(name string) bool {
	_, ok := f.get(name)
	return ok
}

func (f fields) text(name string) string {
	raw, _ := f.get(name)
	var t text
	if len(raw) == 0 || json.Unmarshal(raw, &t) != nil {
		return ""
	}
	return string(t)
}

// members reads an object. Of a member that is there twice the first counts.
func members(raw json.RawMessage) (fields, bool) {
	if !isObject(raw) || !json.Valid(raw) {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return nil, false
	}
	out := fields{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, false
		}
		key, _ := name.(string) // in an object it is one
		out = append(out, field{key, value})
	}
	return out, true
}

// listOrMap reads a list, whose entries have no name, or an object.
func listOrMap(raw json.RawMessage) (fields, bool) {
	if f, ok := members(raw); ok {
		return f, true
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || list == nil {
		return nil, false
	}
	out := make(fields, len(list))
	for i, v := range list {
		out[i] = field{"", v}
	}
	return out, true
}

// label is text a tenant wrote for people: printable, bounded, and neither an address nor a token.
func label(s string) string {
	s = strings.TrimSpace(s)
	if s == "" || utf8.RuneCountInString(s) > maxLabel || !utf8.ValidString(s) || strings.Contains(s, "@") {
		return ""
	}
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return ""
		}
	}
	return s
}

// id is an id of FinHub's as it may stand in a URL, a log and an answer. Its ids are UUIDs, "cust_123456789",
// "6r1k1hw6npq" and codes; what is none of these is none.
func id(s string) string {
	if s == "" || len(s) > 128 {
		return ""
	}
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-', r == '.', r == ':':
		default:
			return ""
		}
	}
	if strings.Trim(s, ".") == "" {
		return "" // "." and ".." mean something else in a path
	}
	return s
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
