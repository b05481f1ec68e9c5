package kyc

import (
	"strings"

	"golang.org/x/text/language"
)

// countryCodes are the 249 codes of ISO 3166-1 alpha-3 (2026-01). A list and not a library: the
// libraries at hand also take user-assigned and withdrawn codes, which a provider then refuses.
const countryCodes = "ABW AFG AGO AIA ALA ALB AND ARE ARG ARM ASM ATA ATF ATG AUS AUT AZE BDI BEL BEN BES BFA BGD BGR BHR BHS BIH BLM BLR BLZ BMU BOL BRA BRB BRN BTN BVT BWA " +
	"CAF CAN CCK CHE CHL CHN CIV CMR COD COG COK COL COM CPV CRI CUB CUW CXR CYM CYP CZE DEU DJI DMA DNK DOM DZA ECU EGY ERI ESH ESP EST ETH FIN FJI FLK FRA FRO FSM " +
	"GAB GBR GEO GGY GHA GIB GIN GLP GMB GNB GNQ GRC GRD GRL GTM GUF GUM GUY HKG HMD HND HRV HTI HUN IDN IMN IND IOT IRL IRN IRQ ISL ISR ITA JAM JEY JOR JPN KAZ KEN KGZ KHM KIR KNA KOR KWT " +
	"LAO LBN LBR LBY LCA LIE LKA LSO LTU LUX LVA MAC MAF MAR MCO MDA MDG MDV MEX MHL MKD MLI MLT MMR MNE MNG MNP MOZ MRT MSR MTQ MUS MWI MYS MYT NAM NCL NER NFK NGA NIC NIU NLD NOR NPL NRU NZL " +
	"OMN PAK PAN PCN PER PHL PLW PNG POL PRI PRK PRT PRY PSE PYF QAT REU ROU RUS RWA SAU SDN SEN SGP SGS SHN SJM SLB SLE SLV SMR SOM SPM SRB SSD STP SUR SVK SVN SWE SWZ SXM SYC SYR " +
	"TCA TCD TGO THA TJK TKL TKM TLS TON TTO TUN TUR TUV TWN TZA UGA UKR UMI URY USA UZB VAT VCT VEN VGB VIR VNM VUT WLF WSM YEM ZAF ZMB ZWE"

// brazilianStates are the 26 states and the federal district.
const brazilianStates = "AC AL AM AP BA CE DF ES GO MA MG MS MT PA PB PE PI PR RJ RN RO RR RS SC SE SP TO"

var (
	countries = wordSet(countryCodes)
	states    = wordSet(brazilianStates)
)

func wordSet(words string) map[string]bool {
	set := make(map[string]bool)
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

// brazil is where postal code and state have a form that can be checked.
const brazil = "BRA"

// twoLetters gives the alpha-2 code of every alpha-3 code, threeLetters the other way round. Here the library's user-assigned and
// withdrawn codes do no harm: only those of the list are asked for.
var twoLetters, threeLetters = func() (two, three map[string]string) {
	two, three = make(map[string]string), make(map[string]string)
	for code := range countries {
		region := language.MustParseRegion(code).String()
		two[code], three[region] = region, code
	}
	return two, three
}()

// alpha2 and alpha3 take a country in either form of ISO 3166-1, in capitals.
func alpha2(country string) (string, bool) {
	if _, ok := threeLetters[country]; ok {
		return country, true
	}
	code, ok := twoLetters[country]
	return code, ok
}

func alpha3(country string) (string, bool) {
	if countries[country] {
		return country, true
	}
	code, ok := threeLetters[country]
	return code, ok
}
