package finhubsim

import (
	"net/http"
	"time"
)

// The lock of dossier B4.
const (
	maxFailedSessions = 5
	lockoutTime       = 30 * time.Minute
)

// lockout counts the failed sessions of one user in a row.
type lockout struct {
	failed int
	until  time.Time
}

type sessionRequest struct {
	Username     string `json:"username"`
	Password     string `json:"password"`
	TenantKey    string `json:"tenantKey"`
	TenantSecret string `json:"tenantSecret"`
}

// openSession keeps the lock around a check of credentials, with the documented bodies. ok is false when it has answered.
func (s *Sim) openSession(w http.ResponseWriter, user string, good bool) (ok bool) {
	now := s.config.Now()
	s.mu.Lock()
	l := s.lockouts[user]
	if l == nil {
		l = new(lockout)
		s.lockouts[user] = l
	}
	locked := now.Before(l.until)
	switch {
	case locked:
	case good:
		*l = lockout{}
	default:
		if l.failed++; l.failed >= maxFailedSessions {
			*l = lockout{until: now.Add(lockoutTime)}
			locked = true
		}
	}
	attempts, until := l.failed, l.until
	s.mu.Unlock()
	body := map[string]any{
		"success": false, "errorType": "AUTHENTICATION", "message": "Invalid username or password",
		"attempts": attempts, "maxAttempts": maxFailedSessions, "lockoutTime": nil,
	}
	switch {
	case locked:
		body["attempts"], body["lockoutTime"], body["lockoutDuration"] = maxFailedSessions, until.UTC().Format(time.RFC3339), "30 minutes"
		refuse(w, http.StatusUnauthorized, "Account locked", body)
	case !good:
		refuse(w, http.StatusUnauthorized, "Authentication failed", body)
	default:
		return true
	}
	return false
}

// serveAdminSession is POST /admin/organization/{organization}/users/{user}/sessions (dossier B1.2).
func (s *Sim) serveAdminSession(w http.ResponseWriter, r *http.Request) {
	tenant := r.Header.Get("X-Tenant-ID")
	if tenant == "" {
		refuse(w, http.StatusBadRequest, "Request validation failed", validation("X-Tenant-ID", "X-Tenant-ID header is required"))
		return
	}
	var in sessionRequest
	if !decode(w, r, &in) {
		return
	}
	good := r.PathValue("organization") == SandboxOrganization && r.PathValue("id") == SandboxUser &&
		in == sessionRequest{SandboxUsername, SandboxPassword, SandboxTenantKey, SandboxTenantSecret}
	if !s.openSession(w, "admin\x00"+tenant, good) {
		return
	}
	token, ends := "session-"+newID(), s.config.Now().Add(s.config.SessionLife)
	s.mu.Lock()
	s.sessions[token] = adminSession{tenant, ends}
	s.mu.Unlock()
	s.answer(w, "Success", map[string]any{
		"sessionId": newID(), "userId": SandboxUser, "token": token, "refreshToken": "refresh-" + newID(),
		"expiresAt": ends.UTC().Format(time.RFC3339), "success": true, "message": "Session created successfully", "errorType": "NONE",
	})
}

// ExpireSessions ends every admin session: its token is refused from now on.
func (s *Sim) ExpireSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sessions)
}

// serveCustomerSession is POST /customer/individual/{id}/users/{user}/sessions (dossier B4).
func (s *Sim) serveCustomerSession(w http.ResponseWriter, r *http.Request, tenant string) {
	var in sessionRequest
	if !decode(w, r, &in) {
		return
	}
	s.mu.Lock()
	c := s.customers[r.PathValue("id")]
	found := c != nil && c.tenant == tenant && c.userID == r.PathValue("user")
	good := found && in.Username == c.email && c.passwordIs(in.Password)
	s.mu.Unlock()
	if !found {
		refuse(w, http.StatusNotFound, "User not found", map[string]any{"success": false, "errorType": "NOT_FOUND"})
		return
	}
	if s.openSession(w, "customer\x00"+c.id, good) {
		s.answer(w, "Success", map[string]any{
			"sessionId": newID(), "userId": c.userID, "token": "customer-" + newID(), "refreshToken": "refresh-" + newID(),
			"expiresAt": s.config.Now().Add(time.Hour).UTC().Format(time.RFC3339), "success": true, "message": "Session created successfully", "errorType": "NONE",
		})
	}
}
