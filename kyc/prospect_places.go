package kyc

import (
	_ "embed" // the two tables below
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // a machine without a zone database would refuse every country
)

// countryCodes2 are the 249 codes of ISO 3166-1 alpha-2; see countryCodes for why it is a list.
const countryCodes2 = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR " +
	"CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU " +
	"ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ " +
	"MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI " +
	"SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"

// The tables hold a country a line. subdivisionTable is ISO 3166-2 without the country's prefix: the codes of 2023-02, and
// those of Guatemala, Indonesia, Kazakhstan and Norway that came later. The ones they replaced stay good (ours):
// addresses outlive them. It is a table and not a library: the one that can be had (biter777/countries v1.7.5) lacks 577
// codes, all voivodeships of Poland and La Rioja in Argentina among them. zoneTable is the zone.tab of the IANA time
// zone database (public domain).
var (
	//go:embed places/subdivisions.txt
	subdivisionTable string
	//go:embed places/zones.txt
	zoneTable string
)

// shortStateNames are those that are no part of an ISO code. Leap takes "the state's short name" besides and
// publishes no list (dossier A2.1, A11.13). For Mexico they are what Google Maps calls short_name, which is where Leap's
// examples Q.R. and CDMX come from; DF and JA, two more of its examples, are of the two families of two letters in use, the
// postal one and that of the CURP. Leap decides; what it does not take it refuses.
var shortStateNames = map[string]string{
	"MX": "Ags. B.C. B.C.S. Camp. Chis. Chih. CDMX Coah. Col. Dgo. Méx. Edomex. Gto. Gro. Hgo. Jal. Mich. Mor. Nay. N.L. Oax. Pue. Qro. Q.R. S.L.P. Sin. Son. Tab. Tamps. Tlax. Ver. Yuc. Zac. D.F. QROO Q.ROO EDOMEX " +
		"AG BC BS CM CS CH CO CL DF DG GT GR HG JA MX MI MO NA NL OA PU QT QR SL SI SO TB TM TL VE YU ZA AS CC JC MC MN MS NT OC PL QO SP SR TC TS VZ YN ZS EM",
}

// places is what is known about one country.
type places struct {
	states map[string]bool // in capitals, with and without the country's prefix; empty: ISO 3166-2 knows none
	zones  []*time.Location
}

var placesOf = sync.OnceValue(func() map[string]*places {
	all := make(map[string]*places, 249)
	for code := range strings.FieldsSeq(countryCodes2) {
		all[code] = &places{states: make(map[string]bool)}
	}
	for line := range strings.Lines(subdivisionTable) {
		country, codes, _ := strings.Cut(line, " ")
		for code := range strings.FieldsSeq(codes) {
			all[country].states[code] = true
			all[country].states[country+"-"+code] = true
		}
	}
	for country, names := range shortStateNames {
		for name := range strings.FieldsSeq(names) {
			all[country].states[strings.ToUpper(name)] = true
		}
	}
	for line := range strings.Lines(zoneTable) {
		country, names, _ := strings.Cut(line, " ")
		for name := range strings.FieldsSeq(names) {
			zone, err := time.LoadLocation(name)
			if err != nil {
				continue // younger than the zone database at hand: the country's others decide
			}
			all[country].zones = append(all[country].zones, zone)
		}
	}
	for _, p := range all {
		if len(p.zones) == 0 { // Bouvet and Heard, where nobody lives
			p.zones = []*time.Location{time.FixedZone("", -12*3600), time.FixedZone("", 14*3600)}
		}
	}
	return all
})

// today gives the earliest and the latest calendar date there is in a country at a moment: they differ while midnight
// is crossing a country of several time zones. An unknown country may be anywhere.
func today(country string, now time.Time) (earliest, latest time.Time) {
	p := placesOf()[country]
	if p == nil {
		p = &places{zones: []*time.Location{time.FixedZone("", -12*3600), time.FixedZone("", 14*3600)}}
	}
	for i, zone := range p.zones {
		y, m, d := now.In(zone).Date()
		date := time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
		if i == 0 || date.Before(earliest) {
			earliest = date
		}
		if i == 0 || date.After(latest) {
			latest = date
		}
	}
	return earliest, latest
}
