package finhubsim

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/kycgate/kycgate/providers/simulator"
)

// category is one of the catalog. Its id is the same in every shape, so that a client must come to the same body in all.
type category struct {
	id, name, description, risk string
	features                    []feature
}

type feature struct {
	code, id, name string
	mandatory      []string
	allowed        map[string][]string
	multi          []string
}

// The categories of the sandbox. The first is the seed's example (dossier B2.1, S1), the second that of the flows (S3).
const (
	MediumRisk = "e50bb9ad-6a97-41da-8e66-4c3c0f7e2a3d"
	HighRisk   = "a12bb8cd-5e87-42dc-9f55-5d4d1f8a2b4e"
	LowRisk    = "fs-cat-b2c-low-001"
	// AsksForMore has a mandatory key that no rule chooses (dossier B2.1, S2: data_retention_days).
	AsksForMore = "cat-cloudvault-ind-001"
	// Closed is in the hierarchy and refused with 403 (dossier B3.4).
	Closed = "cat-closed-001"
)

var catalog = []category{
	{MediumRisk, "Medium Risk Individual", "", "MEDIUM", []feature{mediumRiskProfile}},
	{HighRisk, "High Risk Individual", "High-risk customers requiring enhanced monitoring", "HIGH", []feature{enhancedMonitoring}},
	{LowRisk, "Individual Standard", "", "LOW", nil},
	{AsksForMore, "Individual Basic", "", "", []feature{customerProfile}},
	{Closed, "Individual Closed", "", "", nil},
}

var (
	mediumRiskProfile = feature{
		code: "MEDIUM_RISK_PROFILE", id: "f7a8b9c0-d1e2-4f4a-8b6c-7d8e9f0a1b2c", name: "Medium Risk Profile Parameters",
		mandatory: []string{"riskLevel", "riskScore", "pep", "sanctionsCheck", "monthlyLimit"},
		allowed:   map[string][]string{"riskLevel": {"LOW", "MEDIUM", "HIGH"}, "pep": {"true", "false"}, "sanctionsCheck": {"STANDARD", "ENHANCED"}},
	}
	enhancedMonitoring = feature{
		code: "ENHANCED_AML_MONITORING", id: "660e8400-e29b-41d4-a716-446655440002", name: "Enhanced AML Monitoring",
		mandatory: []string{"riskLevel", "riskScore", "pep", "sanctionsCheck", "monitoring", "edd"},
		allowed: map[string][]string{
			"riskLevel": {"LOW", "MEDIUM", "HIGH", "CRITICAL"}, "riskScore": {"0-100"}, "pep": {"true", "false"},
			"pepCategory": {"DOMESTIC_PEP", "FOREIGN_PEP", "RCA", "HIO"}, "sanctionsCheck": {"STANDARD", "ENHANCED", "REAL_TIME"},
			"monitoring": {"WEEKLY", "DAILY", "REAL_TIME"}, "edd": {"true", "false"},
		},
		multi: []string{"pepCategory"},
	}
	customerProfile = feature{
		code: "CUSTOMER_PROFILE", id: "feat-payflow-profile-001", name: "Customer Profile",
		mandatory: []string{"data_retention_days", "crypto_exchange_integration", "industry", "profile_completeness"},
		allowed: map[string][]string{
			"industry": {"OTHER", "FINTECH", "PAYMENT_SERVICES", "ECOMMERCE"}, "profile_completeness": {"BASIC", "STANDARD", "FULL"},
			"crypto_exchange_integration": {"true", "false"},
		},
	}
)

func (f feature) wire() map[string]any {
	m := map[string]any{"databaseId": f.id, "featureCode": f.code, "featureName": f.name, "mandatoryKeys": f.mandatory, "allowedValues": f.allowed}
	if f.multi != nil {
		m["multiValueKeys"] = f.multi
	}
	return m
}

// serveHierarchy is GET …/categorization/hierarchy/{tenant} (dossier B2).
func (s *Sim) serveHierarchy(w http.ResponseWriter, r *http.Request, tenant string) {
	if asked := r.PathValue("tenant"); asked != "" && asked != tenant {
		refuse(w, http.StatusForbidden, "Tenant access denied or categorization not available", map[string]any{})
		return
	}
	s.mu.Lock()
	shape := s.settings.Shape
	s.mu.Unlock()
	simulator.WriteJSON(w, http.StatusOK, hierarchy(shape, tenant))
}

// hierarchy writes the catalog in a shape (dossier B2.1). Where the documentation shows features beside the categories and does
// not say whose they are, the categories name them by their code (ours).
func hierarchy(shape Shape, tenant string) any {
	byID, beside, list := map[string]any{}, map[string]any{}, []any{}
	for _, c := range catalog {
		full, codes := []any{}, []string{}
		for _, f := range c.features {
			full, codes = append(full, f.wire()), append(codes, f.code)
			beside[f.code] = f.wire()
		}
		entry := map[string]any{"categoryId": c.id, "databaseId": c.id, "categoryName": c.name}
		if c.description != "" {
			entry["description"] = c.description
		}
		switch shape {
		case S2:
			entry["availableFeatures"] = codes
		case S3:
			entry["availableFeatures"] = full
		case S4:
			delete(entry, "categoryId")
			entry["availableFeatures"] = codes
		case S5:
			entry = map[string]any{"id": c.id, "name": c.name, "features": full, "limits": map[string]string{"dailyTransactionLimit": "10000.00"}}
			if c.risk != "" {
				entry["riskLevel"] = c.risk
			}
			if c.description != "" {
				entry["description"] = c.description
			}
		default:
			entry["features"] = full
		}
		byID[c.id] = entry
		list = append(list, entry)
	}
	h := map[string]any{"tenantId": tenant, "tenantName": "kycgate simulator", "categories": byID}
	switch shape {
	case S2:
		h["complianceLevel"], h["features"] = "NON_REGULATED", beside
		return h
	case S3:
		h["complianceLevel"], h["features"] = "ENHANCED", beside
		return map[string]any{"code": 200, "message": "Hierarchy retrieved successfully", "data": h}
	case S4:
		delete(h, "tenantName")
		h["features"] = beside
		return map[string]any{"code": 200, "message": "Success", "data": h}
	case S5:
		return map[string]any{"data": map[string]any{"categories": list}}
	default:
		return h
	}
}

// categorizationRequest is a registration's categorization.
type categorizationRequest struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Relations []struct {
		Feature struct {
			ID   string `json:"id"`
			Code string `json:"code"`
		} `json:"feature"`
		Enabled         bool `json:"enabled"`
		Parametrization []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"parametrization"`
	} `json:"categoryFeatureRelations"`
}

// check finds what is wrong with a categorization, as the documented 400 lists it (dossier B3.4). known is false for a category
// this tenant has not.
func (in categorizationRequest) check() (details string, missing []string, invalid map[string]string, known bool) {
	i := slices.IndexFunc(catalog, func(c category) bool { return c.id == in.ID })
	if i < 0 || in.ID == Closed {
		return "", nil, nil, false
	}
	invalid = map[string]string{}
	for _, f := range catalog[i].features {
		given := map[string]string{}
		for _, r := range in.Relations {
			if r.Feature.Code == f.code && r.Feature.ID == f.id {
				for _, p := range r.Parametrization {
					given[p.Name] = p.Value
				}
			}
		}
		for _, key := range f.mandatory {
			if _, ok := given[key]; !ok {
				missing = append(missing, key)
				if details == "" {
					details = "Feature '" + f.code + "' requires mandatory key '" + key + "'"
				}
			}
		}
		for key, value := range given {
			if allowed := f.allowed[key]; allowed != nil && !allows(allowed, value) {
				invalid[key] = value + " is not in allowed values: [" + strings.Join(allowed, ", ") + "]"
			}
		}
	}
	return details, missing, invalid, true
}

// allows knows the one documented range, "0-100".
func allows(allowed []string, value string) bool {
	if slices.Contains(allowed, value) {
		return true
	}
	for _, a := range allowed {
		low, high, ok := strings.Cut(a, "-")
		l, err1 := strconv.Atoi(low)
		h, err2 := strconv.Atoi(high)
		v, err3 := strconv.Atoi(value)
		if ok && err1 == nil && err2 == nil && err3 == nil && v >= l && v <= h {
			return true
		}
	}
	return false
}
