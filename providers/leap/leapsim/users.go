package leapsim

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"
)

// Errors of [Sim.Decide].
var (
	ErrUnknownUser = errors.New("leapsim: there is no user with this id")
	ErrUnknownWord = errors.New("leapsim: status or statusDetail is none of Leap's words")
)

// user is somebody who is registered. Sim.mu guards it.
type user struct {
	id     string
	phone  string // "" where none was given
	email  string // in small letters
	script script
	since  time.Time // of the script's first state
	looked int       // look-ups since then
	posted int
	corrected,
	looks int
}

// now is the state of a user.
func (s *Sim) now(u *user) state {
	i := u.looked
	if !s.config.StepEveryLook {
		i = int(s.config.Now().Sub(u.since) / s.config.StepDelay)
	}
	return u.script[min(max(i, 0), len(u.script)-1)]
}

func (u *user) begin(c script, at time.Time) { u.script, u.since, u.looked = c, at, 0 }

// users are held in the order in which they came, up to a number.
type users struct {
	most    int
	byID    map[string]*user
	byPhone map[string]*user
	byEmail map[string]*user
	order   []*user
}

func newUsers(most int) users {
	return users{most: most, byID: make(map[string]*user), byPhone: make(map[string]*user), byEmail: make(map[string]*user)}
}

func (us *users) put(u *user) {
	us.byID[u.id] = u
	us.order = append(us.order, u)
	us.index(u)
	if len(us.order) > us.most {
		oldest := us.order[0]
		us.order = slices.Delete(us.order, 0, 1)
		delete(us.byID, oldest.id)
		us.unindex(oldest)
	}
}

func (us *users) index(u *user) {
	if u.phone != "" {
		us.byPhone[u.phone] = u
	}
	if u.email != "" {
		us.byEmail[u.email] = u
	}
}

func (us *users) unindex(u *user) {
	if us.byPhone[u.phone] == u {
		delete(us.byPhone, u.phone)
	}
	if us.byEmail[u.email] == u {
		delete(us.byEmail, u.email)
	}
}

// add registers somebody, or corrects the data of somebody who is soft-failed. duplicate names the field that
// belongs to somebody already (dossier A2.1: duplicates are not allowed).
func (s *Sim) add(p registration) (_ User, duplicate string) {
	now := s.config.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	byPhone, byEmail := s.users.byPhone[p.phone], s.users.byEmail[p.email]
	for _, u := range []*user{byPhone, byEmail} {
		if u != nil {
			u.posted++
		}
		if byPhone == byEmail {
			break
		}
	}
	known := byPhone
	if known == nil {
		known = byEmail
	}
	if known == nil {
		u := &user{id: newUserID(), phone: p.phone, email: p.email, posted: 1}
		u.begin(p.script(), now)
		s.users.put(u)
		s.changed.Notify()
		return s.view(u), ""
	}
	another := byPhone != nil && byEmail != nil && byPhone != byEmail
	if s.config.NoCorrections || another || s.now(known).status != StatusUpgradeSoftFailed {
		if byPhone != nil {
			return User{}, "phoneNumber"
		}
		return User{}, "email"
	}
	s.users.unindex(known)
	known.phone, known.email = p.phone, p.email
	s.users.index(known)
	known.corrected++
	known.begin(completes, now)
	s.changed.Notify()
	return s.view(known), ""
}

// look finds a user. Where both are given the e-mail wins (dossier A3).
func (s *Sim) look(phone, email string) (User, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users.byPhone[phone]
	if email != "" {
		u = s.users.byEmail[email]
	}
	if u == nil {
		return User{}, false
	}
	u.looked++
	u.looks++
	s.changed.Notify()
	return s.view(u), true
}

// Decide gives a user a status and a detail, as Leap's people or a widget would, and nothing follows it by itself. Any of the
// documented words will do, and OnProcess; a detail may be "".
func (s *Sim) Decide(userID, status, detail string) error {
	if !slices.Contains(words, status) || detail != "" && !slices.Contains(detailWords, detail) {
		return ErrUnknownWord
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users.byID[userID]
	if u == nil {
		return ErrUnknownUser
	}
	u.begin(script{{status, detail}}, s.config.Now())
	s.changed.Notify()
	return nil
}

var (
	words       = []string{OnProcess, StatusCompleted, StatusUpgradePending, StatusUpgradeInProgress, StatusUpgradeFailed, StatusUpgradeSoftFailed, StatusAccountUpgradeInProgress}
	detailWords = []string{DetailNone, DetailInvalidAddress, DetailInvalidEMail, DetailUnreadableDoc, DetailProvideAdditionalInfo, DetailInvalidPersonalData,
		DetailOtpPrivacyMissing, DetailOtpContractMissing, DetailCompliance, DetailComplianceBlocked, DetailOfacFailed}
)

// User is what the simulator knows about one user, without personal data.
type User struct {
	UserID       string `json:"userId"`
	Status       string `json:"status"`
	StatusDetail string `json:"statusDetail"`
	// Posted counts the well-formed registrations with this phone or e-mail, refused duplicates and corrections
	// included, so more than one plus Corrected means that a client sent it again. A request that a fault stopped before it
	// acted is not counted.
	Posted    int `json:"posted"`
	Corrected int `json:"corrected"`
	Looked    int `json:"looked"` // how often it was looked up
}

func (s *Sim) view(u *user) User {
	st := s.now(u)
	return User{UserID: u.id, Status: st.status, StatusDetail: st.detail, Posted: u.posted, Corrected: u.corrected, Looked: u.looks}
}

// Users returns everybody who is registered, oldest first.
func (s *Sim) Users() []User {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]User, 0, len(s.users.order))
	for _, u := range s.users.order {
		list = append(list, s.view(u))
	}
	return list
}

// ByPhone returns the user of a phone number.
func (s *Sim) ByPhone(phone string) (User, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.users.byPhone[phone]; u != nil {
		return s.view(u), true
	}
	return User{}, false
}

// Wait returns when the users satisfy the condition, or with the error of the context. It looks again at every
// registration and look-up.
func (s *Sim) Wait(ctx context.Context, satisfied func([]User) bool) error {
	for {
		changed := s.changed.Changed()
		if satisfied(s.Users()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// newUserID makes an id like those of the examples: 28 letters and digits (dossier A2.3).
func newUserID() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	var b [28]byte
	_, _ = rand.Read(b[:]) // does not fail: see crypto/rand
	var id strings.Builder
	for _, c := range b {
		id.WriteByte(alphabet[int(c)%len(alphabet)])
	}
	return id.String()
}
