package kyc

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// This file is the "smart categorization" of FinHub's documentation (dossier B2.2, B2.3) as pure functions: a
// caller names a category, and every mandatory key of every feature gets a value of middle risk.

// CategoryParameterInput overrides one parameter (schema: CategoryParameterInput). Feature is a feature's code or id.
type CategoryParameterInput struct{ Feature, Name, Value string }

// Category finds a category by its id or by FinHub's databaseId of it.
func (h CategoryHierarchy) Category(id string) (CustomerCategory, bool) {
	for _, same := range []func(CustomerCategory) string{
		func(c CustomerCategory) string { return c.ID },
		func(c CustomerCategory) string { return c.DatabaseID },
	} {
		if i := slices.IndexFunc(h.Categories, func(c CustomerCategory) bool { return same(c) == id }); i >= 0 {
			return h.Categories[i], true
		}
	}
	return CustomerCategory{}, false
}

// WithDefaults fills in what a registration without overrides would send. A mandatory key that is the caller's to
// give stays without a parameter.
func (h CategoryHierarchy) WithDefaults() CategoryHierarchy {
	h.Categories = slices.Clone(h.Categories)
	for i, c := range h.Categories {
		h.Categories[i], _ = Categorize(c, nil)
	}
	return h
}

// Categorize gives the category with the parameters to send: the overrides, and for every other mandatory key the
// value of the rules below. The errors name each key that has neither, and each override that cannot be, all at once.
func Categorize(category CustomerCategory, overrides []CategoryParameterInput) (CustomerCategory, []UserError) {
	var c checks
	category.Features = slices.Clone(category.Features)
	given := make([][]Parameter, len(category.Features))
	wrong := make(map[string]bool) // feature and key of a refused override: not reported as missing too
	for i, o := range overrides {
		at := func(field string) []string { return []string{"parameters", itoa(i), field} }
		f := slices.IndexFunc(category.Features, func(f CategoryFeature) bool { return f.Code == o.Feature || f.ID == o.Feature })
		if f < 0 {
			c.add(CodeCategoryParameter, "is not a feature of this category", at("feature")...)
			continue
		}
		feature := category.Features[f]
		allowed, listed := feature.allowed(o.Name)
		multi := slices.Contains(feature.MultiValueKeys, o.Name)
		twice := slices.IndexFunc(given[f], func(p Parameter) bool { return p.Name == o.Name && (!multi || p.Value == o.Value) }) >= 0
		refuse := func(message string) {
			wrong[feature.Code+"\x00"+o.Name] = true
			c.add(CodeCategoryParameter, message, "parameters", feature.Code, o.Name)
		}
		switch {
		case !listed && !slices.Contains(feature.MandatoryKeys, o.Name):
			c.add(CodeCategoryParameter, "is not a parameter of this feature", at("name")...)
		case twice:
			refuse("is given twice")
		case strings.TrimSpace(o.Value) == "" || len(o.Value) > 256 || !printable(o.Value):
			refuse("must have 1 to 256 printable characters")
		case len(allowed) > 0 && !isAllowed(allowed, o.Value):
			refuse("must be one of the values the category allows: " + strings.Join(allowed, ", "))
		default:
			given[f] = append(given[f], Parameter{o.Name, o.Value})
		}
	}
	for f := range category.Features {
		feature := &category.Features[f]
		feature.Parameters = []Parameter{}
		for _, key := range feature.MandatoryKeys {
			own := false
			for _, p := range given[f] {
				if p.Name == key {
					feature.Parameters, own = append(feature.Parameters, p), true
				}
			}
			if own || wrong[feature.Code+"\x00"+key] {
				continue
			}
			allowed, _ := feature.allowed(key)
			if value, ok := selectValue(key, allowed); ok {
				feature.Parameters = append(feature.Parameters, Parameter{key, value})
			} else {
				c.add(CodeCategoryParameter, "must be given: the category asks for it and no rule chooses it", "parameters", feature.Code, key)
			}
		}
		for _, p := range given[f] {
			if !slices.Contains(feature.MandatoryKeys, p.Name) {
				feature.Parameters = append(feature.Parameters, p)
			}
		}
	}
	return category, c.errs
}

// allowed gives the allowed values of a key; listed is false when the feature says nothing about it.
func (f CategoryFeature) allowed(key string) (values []string, listed bool) {
	for _, a := range f.AllowedValues {
		if a.Key == key {
			return a.Values, true
		}
	}
	return nil, false
}

// selection is one rule of the seed's script and of the "smart selection" table. A rule has words or a band of numbers.
type selection struct {
	key      *regexp.Regexp // on the lower-cased key, as in the script
	words    []string       // the first that an allowed value has wins
	low, mid float64        // numbers from low to high, the nearer to mid the better
	high     float64
	value    string // where the key has no allowed values
	strict   bool   // no word matches: the caller has to say
}

// selections are asked in this order and the first that matches decides. In the script every match fires; no
// documented key matches two. Its catch-all value is no rule: it is not a value of anything.
var selections = []selection{
	{key: regexp.MustCompile(`risk.*level`), words: []string{"MEDIUM", "STANDARD"}, value: "MEDIUM"},
	{key: regexp.MustCompile(`risk.*score`), low: 40, mid: 55, high: 69, value: "55"},
	// Whether somebody is politically exposed is a fact about them: without a word for "no" nobody may guess (ours).
	{key: regexp.MustCompile(`pep`), words: []string{"FALSE", "NO", "NOT_APPLICABLE", "NONE"}, value: "false", strict: true},
	{key: regexp.MustCompile(`sanctions`), words: []string{"STANDARD", "PERIODIC"}, value: "STANDARD"},
	{key: regexp.MustCompile(`monitoring`), words: []string{"WEEKLY", "STANDARD"}, value: "WEEKLY"},
	{key: regexp.MustCompile(`compliance`), words: []string{"STANDARD_DUE_DILIGENCE", "STANDARD"}, value: "STANDARD_DUE_DILIGENCE"},
	{key: regexp.MustCompile(`edd`), words: []string{"OPTIONAL", "FALSE", "NO"}, value: "false"},
	{key: regexp.MustCompile(`monthly.*limit`), low: 15_000, mid: 20_000, high: 25_000, value: "20000"},
	{key: regexp.MustCompile(`daily.*limit`), low: 3_000, mid: 5_000, high: 7_000, value: "5000"},
	{key: regexp.MustCompile(`verification.*level`), words: []string{"STANDARD"}, value: "STANDARD"},
}

// unnamed chooses for a key without a rule that lists its values: the middle, the harmless or the neutral (ours).
var unnamed = selection{words: []string{"MEDIUM", "STANDARD", "FALSE", "NO", "OTHER"}}

// selectValue chooses the value of a mandatory key; ok is false when it is the caller's to give.
func selectValue(key string, allowed []string) (value string, ok bool) {
	lower := strings.ToLower(key)
	i := slices.IndexFunc(selections, func(s selection) bool { return s.key.MatchString(lower) })
	switch {
	case len(allowed) == 0 && i < 0:
		return "", false
	case len(allowed) == 0:
		return selections[i].value, true
	case i < 0:
		return unnamed.choose(allowed)
	default:
		return selections[i].choose(allowed)
	}
}

// choose takes one of the allowed values, of which there is at least one.
func (s selection) choose(allowed []string) (string, bool) {
	if s.high > 0 {
		if value, ok := s.number(allowed); ok {
			return value, true
		}
		s.words = unnamed.words // a list of words where a number was expected
	}
	for _, word := range s.words {
		for _, exact := range []bool{true, false} {
			for _, v := range allowed {
				if has(v, word, exact) {
					return v, true
				}
			}
		}
	}
	if _, _, isRange := parseRange(allowed[0]); len(allowed) == 1 && !isRange {
		return allowed[0], true // no other is possible
	}
	if s.strict {
		return "", false
	}
	middle := allowed[len(allowed)/2]
	if low, high, isRange := parseRange(middle); isRange {
		return format(math.Floor((low + high) / 2)), true
	}
	return middle, true
}

// number takes the number nearest to the middle of the rule's band, inside the band if there is one.
func (s selection) number(allowed []string) (value string, ok bool) {
	best := math.Inf(1)
	for _, v := range allowed {
		candidate, text := 0.0, v
		if low, high, isRange := parseRange(v); isRange {
			candidate = math.Min(math.Max(s.mid, low), high)
			text = format(candidate)
		} else if n, isNumber := parseNumber(v); isNumber {
			candidate = n
		} else {
			continue
		}
		distance := math.Abs(candidate - s.mid)
		if candidate < s.low || candidate > s.high {
			distance += 1e12 // anything inside the band comes first
		}
		if distance < best {
			best, value, ok = distance, text, true
		}
	}
	return value, ok
}

// has reports whether a value is the word or, unless exact, has it among its words: STANDARD_DUE_DILIGENCE has STANDARD.
func has(value, word string, exact bool) bool {
	value = strings.ToUpper(value)
	if exact {
		return value == word
	}
	parts := strings.FieldsFunc(value, func(r rune) bool { return r == '_' || r == '-' || r == ' ' })
	return slices.Contains(parts, word)
}

// isAllowed reports whether a value is listed or lies in a listed range.
func isAllowed(allowed []string, value string) bool {
	if slices.Contains(allowed, value) {
		return true
	}
	n, isNumber := parseNumber(value)
	return isNumber && slices.ContainsFunc(allowed, func(v string) bool {
		low, high, isRange := parseRange(v)
		return isRange && n >= low && n <= high
	})
}

var (
	numberPattern = regexp.MustCompile(`^([0-9]{1,15}(?:\.[0-9]{1,6})?)([kKmM]?)$`)
	rangePattern  = regexp.MustCompile(`^\s*([0-9.]+[kKmM]?)\s*(?:-|–|\.\.)\s*([0-9.]+[kKmM]?)\s*$`)
)

// parseNumber reads "20000", "20000.00" and "20K".
func parseNumber(s string) (float64, bool) {
	m := numberPattern.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseFloat(m[1], 64)
	switch strings.ToUpper(m[2]) {
	case "K":
		n *= 1e3
	case "M":
		n *= 1e6
	}
	return n, err == nil
}

// parseRange reads "0-100", which is how FinHub writes a range in the place of a value (dossier B2.2).
func parseRange(s string) (low, high float64, ok bool) {
	m := rangePattern.FindStringSubmatch(s)
	if m == nil {
		return 0, 0, false
	}
	low, lowOK := parseNumber(m[1])
	high, highOK := parseNumber(m[2])
	return low, high, lowOK && highOK && low <= high
}

func format(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// riskWords are FinHub's risk levels (dossier B2.4), the strictest first.
var riskWords = []string{"PROHIBITED", "CRITICAL", "HIGH", "MEDIUM", "LOW"}

// RiskLevelOf reads a risk level out of a category's code or name where FinHub gives none: "High Risk Individual"
// (ours). "" when it does not say.
func RiskLevelOf(texts ...string) string {
	for _, word := range riskWords {
		for _, t := range texts {
			if has(t, word, false) {
				return word
			}
		}
	}
	return ""
}
