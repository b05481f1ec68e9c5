package kyc

import "context"

// Customer gives one customer of the caller's partner, or nil. A subject token sees its own person's.
func (s *Service) Customer(ctx context.Context, id CustomerID) (*Customer, error) {
	c := CallerFrom(ctx)
	if !wellFormed(string(id), customerPrefix) {
		return nil, nil
	}
	customer, err := s.Store.Customer(ctx, c.Partner, id)
	if customer == nil || customer.Version == 0 || c.IsSubject() && customer.PersonID != c.Person {
		return nil, err
	}
	return customer, err
}

// CustomersOf gives the customers of many persons at once, oldest first.
func (s *Service) CustomersOf(ctx context.Context, persons []PersonID) (map[PersonID][]*Customer, error) {
	rows, err := s.Store.CustomersOf(ctx, CallerFrom(ctx).Partner, persons)
	if err != nil {
		return nil, err
	}
	out := make(map[PersonID][]*Customer, len(persons))
	for _, id := range persons {
		out[id] = append([]*Customer{}, rows[id]...)
	}
	return out, nil
}
