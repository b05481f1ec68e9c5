package kyc

import (
	"crypto/rand"
	"sync"

	"github.com/oklog/ulid/v2"
)

// Ids are opaque to clients, prefixed by type and sortable by birth: prefix + 26-character ULID.
type (
	// PersonID names one natural person of one partner (per_…). It is also QI Tech's registration_id.
	PersonID string
	// RegistrationID names one snapshot of a registration (reg_…).
	RegistrationID string
	// AnalysisID names one analysis at a KYC provider (ana_…). It is the `id` we choose at QI Tech.
	AnalysisID string
	// ProcessID names one biometric or document check (prc_…).
	ProcessID string
	// FaceID names one face registration of one partner (fac_…).
	FaceID string
	// JobID names a row of the jobs table (job_…).
	JobID string
)

// Prefixes of the global ids.
const (
	personPrefix       = "per_"
	registrationPrefix = "reg_"
	analysisPrefix     = "ana_"
	processPrefix      = "prc_"
	facePrefix         = "fac_"
	jobPrefix          = "job_"
)

// ids makes ULIDs that strictly increase within this process, which is what lets a list be paged by id in
// order of creation. ulid.Make does not: it reads the clock before it takes its lock.
var ids = struct {
	sync.Mutex
	last    uint64
	entropy *ulid.MonotonicEntropy
}{entropy: ulid.Monotonic(rand.Reader, 0)}

func newID(prefix string) string {
	ids.Lock()
	defer ids.Unlock()
	ids.last = max(ids.last, ulid.Now()) // a clock that steps back does not take us along
	return prefix + ulid.MustNew(ids.last, ids.entropy).String()
}

// NewPersonID and its siblings make a fresh id.
func NewPersonID() PersonID { return PersonID(newID(personPrefix)) }

// NewRegistrationID makes a fresh id.
func NewRegistrationID() RegistrationID { return RegistrationID(newID(registrationPrefix)) }

// NewAnalysisID makes a fresh id.
func NewAnalysisID() AnalysisID { return AnalysisID(newID(analysisPrefix)) }

// NewProcessID makes a fresh id.
func NewProcessID() ProcessID { return ProcessID(newID(processPrefix)) }

// NewFaceID makes a fresh id.
func NewFaceID() FaceID { return FaceID(newID(facePrefix)) }

// NewJobID makes a fresh id.
func NewJobID() JobID { return JobID(newID(jobPrefix)) }
