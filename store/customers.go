package store

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/kycgate/kycgate/kyc"
)

const customerColumns = `c.partner_id, c.id, c.person_id, c.provider, c.provider_customer_id, c.provider_user_id, c.provider_person_id, c.status,
	c.provider_status, c.status_detail, c.submission, c.state, c.sealed_personal, c.created_at, c.updated_at, c.version, ` + keyColumns

// selectCustomers joins the key that opens a row: that of the person. What follows narrows it further.
const selectCustomers = `SELECT ` + customerColumns + ` FROM customers c CROSS JOIN data_keys k ON k.partner_id = c.partner_id AND k.owner = c.person_id
	WHERE c.partner_id = ? AND `

// customerRow is a row of customers.
type customerRow struct {
	PartnerID          string  `db:"partner_id"`
	ID                 string  `db:"id"`
	PersonID           string  `db:"person_id"`
	Provider           string  `db:"provider"`
	ProviderCustomerID *string `db:"provider_customer_id"`
	ProviderUserID     *string `db:"provider_user_id"`
	ProviderPersonID   *string `db:"provider_person_id"`
	Status             string  `db:"status"`
	ProviderStatus     *string `db:"provider_status"`
	StatusDetail       *string `db:"status_detail"`
	Submission         string  `db:"submission"`
	State              string  `db:"state"`
	SealedPersonal     []byte  `db:"sealed_personal"`
	EmailIndex         []byte  `db:"email_index"`
	PhoneIndex         []byte  `db:"phone_index"`
	CreatedAt          micros  `db:"created_at"`
	UpdatedAt          micros  `db:"updated_at"`
	Version            int     `db:"version"`
	wrappedKey
}

// customerState is what is kept of a customer as JSON: no personal data.
type customerState struct {
	UserID     *string               `json:"user_id,omitempty"`
	UserStatus string                `json:"user_status,omitempty"`
	UserRoles  []string              `json:"user_roles,omitempty"`
	Category   *kyc.CustomerCategory `json:"category,omitempty"`
	Cip        *kyc.CipState         `json:"cip,omitempty"`
	NextAction *kyc.NextAction       `json:"next_action,omitempty"`
	Steps      *kyc.CustomerSteps    `json:"steps,omitempty"`
	Prospect   *kyc.ProspectState    `json:"prospect,omitempty"`
}

// customerPersonal is the sealed document.
type customerPersonal struct {
	Username *string         `json:"username,omitempty"`
	Email    *string         `json:"email,omitempty"`
	Phone    *string         `json:"phone,omitempty"`
	Request  json.RawMessage `json:"request,omitempty"`
}

func newCustomerRow(c *kyc.Customer) (customerRow, customerPersonal, error) {
	r := customerRow{
		PartnerID: string(c.PartnerID), ID: string(c.ID), PersonID: string(c.PersonID), Provider: c.Provider,
		ProviderCustomerID: c.ProviderCustomerID, ProviderUserID: c.ProviderUserID, ProviderPersonID: c.ProviderPersonID,
		Status: string(c.Status), ProviderStatus: c.ProviderStatus, StatusDetail: c.StatusDetail, Submission: string(c.Submission),
		CreatedAt: newMicros(c.CreatedAt), UpdatedAt: newMicros(c.UpdatedAt), Version: c.Version,
	}
	state := customerState{Category: c.Category, Cip: c.Cip, NextAction: c.NextAction, Steps: c.Steps, Prospect: c.Prospect}
	p := customerPersonal{Email: revealed(c.Unique.Email), Phone: revealed(c.Unique.Phone), Request: json.RawMessage(c.Request)}
	if u := c.User; u != nil {
		name := u.Username.Reveal()
		state.UserID, state.UserStatus, state.UserRoles, p.Username = u.ID, u.Status, u.Roles, &name
	}
	text, err := json.Marshal(state)
	r.State = string(text)
	return r, p, err
}

func (r *customerRow) customer(p customerPersonal) (*kyc.Customer, error) {
	var state customerState
	if err := json.Unmarshal([]byte(r.State), &state); err != nil {
		return nil, err
	}
	c := &kyc.Customer{
		ID: kyc.CustomerID(r.ID), PartnerID: kyc.PartnerID(r.PartnerID), PersonID: kyc.PersonID(r.PersonID), Provider: r.Provider,
		ProviderCustomerID: r.ProviderCustomerID, ProviderUserID: r.ProviderUserID, ProviderPersonID: r.ProviderPersonID,
		Status: kyc.CustomerStatus(r.Status), ProviderStatus: r.ProviderStatus, StatusDetail: r.StatusDetail, Submission: kyc.Submission(r.Submission),
		Category: state.Category, Cip: state.Cip, NextAction: state.NextAction, Steps: state.Steps, Prospect: state.Prospect,
		Unique:    kyc.CustomerKeys{Email: wrapped(p.Email, kyc.NewEmailAddress), Phone: wrapped(p.Phone, kyc.NewPhoneNumber)},
		Request:   kyc.JSON(p.Request),
		CreatedAt: r.CreatedAt.time(), UpdatedAt: r.UpdatedAt.time(), Version: r.Version,
	}
	if p.Username != nil {
		c.User = &kyc.CustomerUser{ID: state.UserID, Username: kyc.NewEmailAddress(*p.Username), Status: state.UserStatus, Roles: state.UserRoles}
	}
	return c, nil
}

// Fields of the blind indexes.
const (
	customerEmail = "customer.email"
	customerPhone = "customer.phone"
)

// emailKey is what makes two addresses the same: providers compare without case (ours).
func emailKey(provider string, e kyc.EmailAddress) string {
	return provider + "\x00" + strings.ToLower(e.Reveal())
}

func phoneKey(provider string, p kyc.PhoneNumber) string { return provider + "\x00" + p.Reveal() }

// Customer implements [kyc.Reader].
func (r reader) Customer(ctx context.Context, partner kyc.PartnerID, id kyc.CustomerID) (*kyc.Customer, error) {
	return r.customer(ctx, "store.customer", selectCustomers+`c.id = ?`, partner, id)
}

// CustomerByEmail implements [kyc.Reader].
func (r reader) CustomerByEmail(ctx context.Context, partner kyc.PartnerID, provider string, email kyc.EmailAddress) (*kyc.Customer, error) {
	return r.customer(ctx, "store.customer_by_email",
		selectCustomers+`c.provider = ? AND c.email_index = ?`,
		partner, provider, r.crypt.index(partner, customerEmail, emailKey(provider, email)))
}

// CustomerByPhone implements [kyc.Reader].
func (r reader) CustomerByPhone(ctx context.Context, partner kyc.PartnerID, provider string, phone kyc.PhoneNumber) (*kyc.Customer, error) {
	return r.customer(ctx, "store.customer_by_phone",
		selectCustomers+`c.provider = ? AND c.phone_index = ?`,
		partner, provider, r.crypt.index(partner, customerPhone, phoneKey(provider, phone)))
}

func (r reader) customer(ctx context.Context, op, query string, args ...any) (c *kyc.Customer, err error) {
	err = r.use(ctx, op, func(_ context.Context, q *session) error {
		var row customerRow
		found, err := q.get(&row, query, args...)
		if found {
			c, err = r.openCustomer(q, &row)
		}
		return err
	})
	return c, err
}

// CustomersOf implements [kyc.Reader].
func (r reader) CustomersOf(ctx context.Context, partner kyc.PartnerID, persons []kyc.PersonID) (map[kyc.PersonID][]*kyc.Customer, error) {
	customers := make(map[kyc.PersonID][]*kyc.Customer, len(persons))
	err := r.forEach(ctx, "store.customers_of", persons, func(ctx context.Context, q *session, some []kyc.PersonID) error {
		query, args, err := listed(selectCustomers+`c.person_id IN (?) AND c.version > 0 ORDER BY c.person_id, c.id`, some, []any{partner}, nil)
		if err != nil {
			return err
		}
		var found []customerRow
		if err := q.all(ctx, &found, query, args...); err != nil {
			return err
		}
		for i := range found {
			c, err := r.openCustomer(q, &found[i])
			if err != nil {
				return err
			}
			customers[c.PersonID] = append(customers[c.PersonID], c)
		}
		return nil
	})
	return customers, err
}

// openCustomer reads the sealed document of a row.
func (r reader) openCustomer(q *session, row *customerRow) (*kyc.Customer, error) {
	k, err := r.crypt.open(q, kyc.PartnerID(row.PartnerID), row.PersonID, row.wrappedKey)
	if err != nil {
		return nil, err
	}
	var p customerPersonal
	if err := k.unsealJSON("customers", "personal", row.ID, row.SealedPersonal, &p); err != nil {
		return nil, err
	}
	return row.customer(p)
}

// customerRow makes the row of a customer, with the sealed document and the indexes.
func (t *tx) customerRow(q *session, c *kyc.Customer) (customerRow, error) {
	r, p, err := newCustomerRow(c)
	if err != nil {
		return r, err
	}
	if e := c.Unique.Email; e != nil {
		r.EmailIndex = t.crypt.index(c.PartnerID, customerEmail, emailKey(c.Provider, *e))
	}
	if ph := c.Unique.Phone; ph != nil {
		r.PhoneIndex = t.crypt.index(c.PartnerID, customerPhone, phoneKey(c.Provider, *ph))
	}
	k, err := t.keyFor(q, c.PartnerID, string(c.PersonID))
	if err != nil {
		return r, err
	}
	r.SealedPersonal, err = k.sealJSON("customers", "personal", r.ID, p)
	return r, err
}

// InsertCustomer implements [kyc.Tx].
func (t *tx) InsertCustomer(ctx context.Context, c *kyc.Customer) error {
	return t.use(ctx, "store.insert_customer", func(_ context.Context, q *session) error {
		row, err := t.customerRow(q, c)
		if err != nil {
			return err
		}
		_, err = q.execRow(`INSERT INTO customers (partner_id, id, person_id, provider, provider_customer_id, provider_user_id, provider_person_id,
			status, provider_status, status_detail, submission, state, sealed_personal, created_at, updated_at, version, email_index, phone_index)
			VALUES (:partner_id, :id, :person_id, :provider, :provider_customer_id, :provider_user_id, :provider_person_id,
			:status, :provider_status, :status_detail, :submission, :state, :sealed_personal, :created_at, :updated_at, :version, :email_index, :phone_index)`, row)
		if err == nil {
			t.customerChanged(c)
		}
		return err
	})
}

// UpdateCustomer implements [kyc.Tx]. Updating a customer who is not there is our mistake and fails.
func (t *tx) UpdateCustomer(ctx context.Context, c *kyc.Customer) error {
	return t.use(ctx, "store.update_customer", func(_ context.Context, q *session) error {
		row, err := t.customerRow(q, c)
		if err != nil {
			return err
		}
		err = mustChange(q.execRow(`UPDATE customers SET
			provider_customer_id = :provider_customer_id, provider_user_id = :provider_user_id, provider_person_id = :provider_person_id,
			status = :status, provider_status = :provider_status, status_detail = :status_detail, submission = :submission, state = :state,
			sealed_personal = :sealed_personal, email_index = :email_index, phone_index = :phone_index, updated_at = :updated_at, version = :version
			WHERE partner_id = :partner_id AND id = :id`, row))
		if err == nil {
			t.customerChanged(c)
		}
		return err
	})
}

// customerChanged makes no version of the customer's own: nobody follows one alone.
func (t *tx) customerChanged(c *kyc.Customer) {
	t.touch(touched{partner: c.PartnerID, person: c.PersonID, kind: kyc.EventCustomer, object: string(c.ID), at: c.UpdatedAt}, new(*c))
}

// DeleteCustomer implements [kyc.Tx].
func (t *tx) DeleteCustomer(ctx context.Context, partner kyc.PartnerID, id kyc.CustomerID) error {
	return t.use(ctx, "store.delete_customer", func(_ context.Context, q *session) error {
		if err := t.touchOwner(q, `SELECT person_id FROM customers WHERE partner_id = ? AND id = ?`, partner, kyc.EventCustomer, string(id)); err != nil {
			return err
		}
		_, err := q.exec(`DELETE FROM customers WHERE partner_id = ? AND id = ?`, partner, id)
		return err
	})
}
