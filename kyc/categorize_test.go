package kyc

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func feature(code string, mandatory []string, allowed map[string][]string) CategoryFeature {
	f := CategoryFeature{ID: "id-" + code, Code: code, Enabled: true, MandatoryKeys: mandatory}
	for key, values := range allowed {
		f.AllowedValues = append(f.AllowedValues, AllowedValues{key, values})
	}
	return f
}

// The seed's examples: what its script and its tables choose, key by key (dossier B2.1 to B2.3).
func TestSelectedValues(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key     string
		allowed string // comma separated; "" is none
		want    string // "" is: the caller has to say
	}{
		// The script, for keys without allowed values. Its catch-all, MEDIUM_RISK_VALUE, is never sent.
		{"riskLevel", "", "MEDIUM"}, {"RISK_LEVEL", "", "MEDIUM"}, {"riskScore", "", "55"}, {"pep", "", "false"}, {"sanctionsCheck", "", "STANDARD"},
		{"monitoring", "", "WEEKLY"}, {"complianceProgramme", "", "STANDARD_DUE_DILIGENCE"}, {"edd", "", "false"}, {"monthlyLimit", "", "20000"},
		{"dailyLimit", "", "5000"}, {"verificationLevel", "", "STANDARD"}, {"data_retention_days", "", ""}, {"industry", "", ""}, {"", "", ""},
		// S1, the seed's category.
		{"riskLevel", "LOW,MEDIUM,HIGH", "MEDIUM"}, {"pep", "true,false", "false"}, {"sanctionsCheck", "STANDARD,ENHANCED", "STANDARD"},
		// S3, enhanced monitoring.
		{"riskLevel", "LOW,MEDIUM,HIGH,CRITICAL", "MEDIUM"}, {"riskScore", "0-100", "55"}, {"sanctionsCheck", "STANDARD,ENHANCED,REAL_TIME", "STANDARD"},
		{"monitoring", "WEEKLY,DAILY,REAL_TIME", "WEEKLY"}, {"edd", "true,false", "false"},
		// S2: named by no rule, but with values.
		{"industry", "OTHER,FINTECH,PAYMENT_SERVICES,ECOMMERCE", "OTHER"}, {"profile_completeness", "BASIC,STANDARD,FULL", "STANDARD"},
		{"payment_gateway_integration", "true,false", "false"}, {"data_source", "external,banq_platform", "banq_platform"},
		// The table of "smart selection".
		{"RISK_LEVEL", "STANDARD,LOW", "STANDARD"}, {"RISK_LEVEL", "A,B,C", "B"}, {"RISK_LEVEL", "VERY_LOW,HIGH", "HIGH"}, {"RISK_SCORE", "10,50,60,90", "50"},
		{"RISK_SCORE", "10,20,90", "20"}, {"RISK_SCORE", "0-30", "30"}, {"RISK_SCORE", "60-100", "60"}, {"RISK_SCORE", "0-30,31-60,61-100", "55"}, {"RISK_SCORE", "LOW,MEDIUM", "MEDIUM"},
		{"PEP_STATUS", "YES,NO", "NO"}, {"PEP_STATUS", "YES,NOT_APPLICABLE", "NOT_APPLICABLE"}, {"PEP_STATUS", "TRUE,FALSE", "FALSE"}, {"pepCategory", "DOMESTIC_PEP,FOREIGN_PEP,RCA,HIO", ""},
		{"pep", "true", "true"}, {"SANCTIONS_CHECK", "DAILY,PERIODIC", "PERIODIC"}, {"MONITORING_FREQUENCY", "DAILY,STANDARD", "STANDARD"},
		{"MONTHLY_LIMIT", "5000,15000,20000,50000", "20000"}, {"MONTHLY_LIMIT", "15K,25K", "15K"}, {"MONTHLY_LIMIT", "0-1000000", "20000"}, {"DAILY_LIMIT", "4000,6000", "4000"},
		{"DAILY_LIMIT", "1000.00,5000.00", "5000.00"}, {"EDD_REQUIRED", "REQUIRED,OPTIONAL", "OPTIONAL"}, {"VERIFICATION_LEVEL", "BASIC,STANDARD,ENHANCED", "STANDARD"},
		{"complianceLevel", "NONE,STANDARD_DUE_DILIGENCE,ENHANCED_DUE_DILIGENCE", "STANDARD_DUE_DILIGENCE"}, {"retention", "30-365", "197"},
	} {
		var allowed []string
		if tt.allowed != "" {
			allowed = strings.Split(tt.allowed, ",")
		}
		got, ok := selectValue(tt.key, allowed)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s of %q: got %q, %t, want %q", tt.key, tt.allowed, got, ok, tt.want)
		}
	}
}

func paths(errs []UserError) (out []string) {
	for _, e := range errs {
		out = append(out, string(e.Code)+" "+strings.Join(e.Path, "."))
	}
	slices.Sort(out)
	return out
}

func TestOverrides(t *testing.T) {
	t.Parallel()
	c := CustomerCategory{ID: "c", Features: []CategoryFeature{
		feature("AML", []string{"riskScore", "retention"}, map[string][]string{"riskScore": {"0-100"}, "pepCategory": {"RCA", "HIO"}, "note": {"A", "B"}}),
		feature("OTHER", []string{"riskLevel"}, nil),
	}}
	c.Features[0].MultiValueKeys = []string{"pepCategory"}
	o := func(feature, name, value string) CategoryParameterInput {
		return CategoryParameterInput{feature, name, value}
	}
	for name, tt := range map[string]struct {
		overrides []CategoryParameterInput
		want      string // parameters of the first feature
		errs      []string
	}{
		"none":              {nil, "riskScore=55", []string{"CATEGORY_PARAMETER input.parameters.AML.retention"}},
		"what nobody knows": {[]CategoryParameterInput{o("AML", "retention", "30")}, "riskScore=55 retention=30", nil},
		"by the feature's id, in a range": {[]CategoryParameterInput{o("id-AML", "retention", "30"), o("id-AML", "riskScore", "99")},
			"riskScore=99 retention=30", nil},
		"out of the range": {[]CategoryParameterInput{o("AML", "retention", "30"), o("AML", "riskScore", "101")}, "retention=30",
			[]string{"CATEGORY_PARAMETER input.parameters.AML.riskScore"}},
		"not mandatory, allowed, several": {[]CategoryParameterInput{o("AML", "retention", "30"), o("AML", "pepCategory", "RCA"), o("AML", "pepCategory", "HIO"), o("AML", "note", "A")},
			"riskScore=55 retention=30 pepCategory=RCA pepCategory=HIO note=A", nil},
		"twice": {[]CategoryParameterInput{o("AML", "retention", "30"), o("AML", "note", "A"), o("AML", "note", "B"), o("AML", "pepCategory", "RCA"), o("AML", "pepCategory", "RCA")},
			"riskScore=55 retention=30 note=A pepCategory=RCA", []string{"CATEGORY_PARAMETER input.parameters.AML.note", "CATEGORY_PARAMETER input.parameters.AML.pepCategory"}},
		"everything wrong": {[]CategoryParameterInput{o("NONE", "x", "y"), o("AML", "x", "y"), o("AML", "note", "C"), o("AML", "retention", " "), o("OTHER", "riskLevel", "a\x00")}, "riskScore=55",
			[]string{
				"CATEGORY_PARAMETER input.parameters.0.feature", "CATEGORY_PARAMETER input.parameters.1.name", "CATEGORY_PARAMETER input.parameters.AML.note",
				"CATEGORY_PARAMETER input.parameters.AML.retention", "CATEGORY_PARAMETER input.parameters.OTHER.riskLevel",
			}},
	} {
		got, errs := Categorize(c, tt.overrides)
		var params []string
		for _, p := range got.Features[0].Parameters {
			params = append(params, p.Name+"="+p.Value)
		}
		if strings.Join(params, " ") != tt.want || !slices.Equal(paths(errs), tt.errs) {
			t.Errorf("%s: %v %v, want %s %v", name, params, paths(errs), tt.want, tt.errs)
		}
		for _, e := range errs {
			for _, o := range tt.overrides {
				if len(o.Value) > 1 && strings.Contains(e.Message, o.Value) {
					t.Errorf("%s: the message repeats the value: %s", name, e.Message)
				}
			}
		}
	}
	if c.Features[0].Parameters != nil {
		t.Error("the hierarchy's own category was changed")
	}
}

// Whatever a tenant configured: no mandatory key is forgotten without being named, and nothing is chosen that is not allowed.
func TestCategorizeForgetsNothing(t *testing.T) {
	t.Parallel()
	words := rapid.SampledFrom([]string{"LOW", "MEDIUM", "HIGH", "true", "false", "YES", "NO", "0-100", "15000-25000", "55", "20000", "1.5", "REAL_TIME", "9-1", "-", "K", "1K-2M"})
	keys := rapid.SampledFrom([]string{"riskLevel", "riskScore", "pep", "pepCategory", "sanctionsCheck", "monitoring", "edd", "monthlyLimit", "dailyLimit", "compliance", "verification_level", "industry", "x"})
	rapid.Check(t, func(t *rapid.T) {
		f := feature("F", rapid.SliceOfDistinct(keys, rapid.ID).Draw(t, "mandatory"), nil)
		for _, k := range rapid.SliceOfDistinct(keys, rapid.ID).Draw(t, "listed") {
			f.AllowedValues = append(f.AllowedValues, AllowedValues{k, rapid.SliceOfN(words, 1, 5).Draw(t, "values")})
		}
		c, errs := Categorize(CustomerCategory{Features: []CategoryFeature{f}}, nil)
		got := c.Features[0]
		for _, k := range f.MandatoryKeys {
			has := slices.ContainsFunc(got.Parameters, func(p Parameter) bool { return p.Name == k })
			named := slices.ContainsFunc(errs, func(e UserError) bool { return e.Path[len(e.Path)-1] == k })
			if has == named {
				t.Fatalf("%s: chosen %t, named %t", k, has, named)
			}
		}
		for _, p := range got.Parameters {
			allowed, _ := f.allowed(p.Name)
			if len(allowed) > 0 && !isAllowed(allowed, p.Value) {
				t.Fatalf("%s: chose %q of %q", p.Name, p.Value, allowed)
			}
			if p.Value == "MEDIUM_RISK_VALUE" {
				t.Fatal("the catch-all was sent")
			}
		}
	})
}

func TestRiskLevelOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Medium Risk Individual": "MEDIUM", "HIGH_RISK_INDIVIDUAL": "HIGH", "fs-cat-b2c-low-001": "LOW", "INDIVIDUAL_BASIC": "", "Highland Traders": "", "low or high": "HIGH",
	} {
		if got := RiskLevelOf(text); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestPasswordPolicy(t *testing.T) {
	t.Parallel()
	for p, want := range map[string]bool{
		"SecurePass123!": true, "SecurePass12!": true, "SecurePas12!": true, "SecurePa12!": false, "securepass123!": false, "SECUREPASS123!": false, "SecurePasswd!": false,
		"SecurePass1234": false, "Sécur€Pass123": true, "Secure Pass 123": true, "SecurePass123!\n": false, "SecurePass123!\xff": false, strings.Repeat("aB1!", 32): true, strings.Repeat("aB1!", 32) + "x": false,
	} {
		if got := strongPassword(p); got != want {
			t.Errorf("%q: %t, want %t", p, got, want)
		}
	}
}

func TestCountriesInBothForms(t *testing.T) {
	t.Parallel()
	if len(twoLetters) != len(countries) || len(threeLetters) != len(countries) {
		t.Errorf("%d and %d of %d countries", len(twoLetters), len(threeLetters), len(countries))
	}
	for in, want := range map[string]string{"LT": "LT", "LTU": "LT", "BRA": "BR", "XX": "", "lt": "", "": "", "XKX": "", "GB": "GB", "GBR": "GB"} {
		if got, ok := alpha2(in); got != want || ok != (want != "") {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if code, ok := alpha3("MX"); code != "MEX" || !ok {
		t.Errorf("MX is %s", code)
	}
}
