package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/kycgate/kycgate/kyc"
)

const benchPersons = 10_000

// filled gives a store with persons who have one registration and two external ids each.
func filled(b *testing.B) (*Store, []*kyc.Person) {
	b.Helper()
	s := open(b)
	var persons []*kyc.Person
	for len(persons) < benchPersons {
		mustWrite(b, s, func(tx kyc.Tx) error {
			for range 1000 {
				p := newPerson()
				persons = append(persons, p)
				if err := register(tx, p, false); err != nil {
					return err
				}
				if err := tx.MapExternalID(context.Background(), acme, p.ID, kyc.ExternalID{Value: "second " + string(p.ID), MappedAt: epoch}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return s, persons
}

// register does to the store what registerPerson does for a new person; analysed is the way of source_kyc qitech.
func register(tx kyc.Tx, p *kyc.Person, analysed bool) error {
	ctx := context.Background()
	external := string("ext-" + p.ID)
	if analysed {
		if _, _, err := tx.Idempotent(ctx, acme, external, benchRequest, epoch); err != nil {
			return err
		}
	}
	if _, err := tx.PersonByDocument(ctx, acme, p.DocumentNumber); err != nil {
		return err
	}
	if _, err := tx.PersonByExternalID(ctx, acme, external); err != nil {
		return err
	}
	if err := tx.InsertPerson(ctx, p); err != nil {
		return err
	}
	if err := tx.MapExternalID(ctx, acme, p.ID, kyc.ExternalID{Value: external, MappedAt: epoch}); err != nil {
		return err
	}
	r := &kyc.Registration{ID: kyc.NewRegistrationID(), PartnerID: acme, PersonID: p.ID, ExternalID: &external, Payload: benchPayload, Profile: p.Profile, ReceivedAt: epoch, Outcome: kyc.OutcomeCreated}
	if err := tx.InsertRegistration(ctx, r); err != nil || !analysed {
		return err
	}
	a := newAnalysis(p, kyc.SubmissionSent)
	if err := tx.InsertAnalysis(ctx, a); err != nil {
		return err
	}
	if err := tx.InsertCall(ctx, &kyc.Call{PartnerID: acme, Provider: "qitech", Operation: "analyze_person", Reference: string(a.ID), Number: 1, StartedAt: epoch}); err != nil {
		return err
	}
	if err := tx.InsertJob(ctx, &kyc.Job{ID: kyc.NewJobID(), Kind: kyc.JobAnalysis, PartnerID: acme, Subject: string(a.ID), RunAt: epoch, Leased: true, Attempt: 1, CreatedAt: epoch}); err != nil {
		return err
	}
	return tx.SaveIdempotent(ctx, &kyc.IdempotentAnswer{PartnerID: acme, Key: external, Mutation: "registerPerson", PersonID: p.ID, ObjectID: string(r.ID), Analysis: a.ID, CreatedAt: epoch}, benchRequest)
}

var benchRequest = make([]byte, 32)

var benchPayload = kyc.JSON(`{"externalId":"ext-1","name":"Maria da Silva Souza","documentNumber":"529.982.247-25","birthdate":"1990-02-28",` +
	`"emails":[{"address":"maria.souza@example.com"}],"phones":[{"number":"+5511987654321","type":"MOBILE"}],"address":{"street":"Rua das Flores",` +
	`"number":"1000","neighborhood":"Centro","city":"São Paulo","state":"SP","postalCode":"01000-000","country":"BRA"},"motherName":"Ana da Silva"}`)

// BenchmarkWriteRegistration is workload W3 without GraphQL: durable registrations (synchronous=FULL).
func BenchmarkWriteRegistration(b *testing.B) {
	for _, callers := range []int{1, 32, 128} {
		for _, analysed := range []bool{false, true} {
			name := fmt.Sprintf("openco/callers=%d", callers)
			if analysed {
				name = fmt.Sprintf("qitech/callers=%d", callers)
			}
			b.Run(name, func(b *testing.B) {
				s := open(b)
				commits := 0
				mustWrite(b, s, func(kyc.Tx) error { // on the writer's goroutine
					real := s.writer.commit
					s.writer.commit = func() error { commits++; return real() }
					return nil
				})
				b.ReportAllocs()
				work := make(chan struct{})
				done := make(chan struct{})
				for range callers {
					go func() {
						for range work {
							p := newPerson()
							if err := s.Write(context.Background(), func(tx kyc.Tx) error { return register(tx, p, analysed) }); err != nil {
								b.Error(err)
							}
						}
						done <- struct{}{}
					}()
				}
				start, before := time.Now(), commits
				b.ResetTimer()
				for range b.N {
					work <- struct{}{}
				}
				close(work)
				for range callers {
					<-done
				}
				b.StopTimer()
				b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "registrations/s")
				mustWrite(b, s, nothing)
				b.ReportMetric(float64(commits-before)/float64(b.N), "commits/op")
			})
		}
	}
}

func BenchmarkPersonByID(b *testing.B) {
	s, persons := filled(b)
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			if find(b, s, persons[i*7919%len(persons)]) == nil {
				b.Fatal("not found")
			}
		}
	})
	b.Run("cancellable", func(b *testing.B) { // as a request's context is
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i++
			if _, err := s.PersonByID(ctx, acme, persons[i*7919%len(persons)].ID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32 / runtime.GOMAXPROCS(0))
		b.RunParallel(func(pb *testing.PB) {
			i := 0
			for pb.Next() {
				i++
				find(b, s, persons[i*7919%len(persons)])
			}
		})
	})
}

func BenchmarkLists(b *testing.B) {
	s, persons := filled(b)
	ctx := context.Background()
	var ids []kyc.PersonID
	for _, p := range persons[:50] {
		ids = append(ids, p.ID)
	}
	for name, ask := range map[string]func(i int) error{
		"Persons=50": func(i int) error {
			_, _, err := s.Persons(ctx, acme, kyc.PersonFilter{}, kyc.Page{First: 50, After: string(persons[100+i*7919%(len(persons)-100)].ID)})
			return err
		},
		"CountPersons=10000": func(int) error { _, err := s.CountPersons(ctx, acme, kyc.PersonFilter{}); return err },
		"ExternalIDs=1":      func(i int) error { _, err := s.ExternalIDs(ctx, acme, ids[i%50:i%50+1]); return err },
		"ExternalIDs=50":     func(int) error { _, err := s.ExternalIDs(ctx, acme, ids); return err },
		"Registrations=1x25": func(i int) error {
			_, err := s.Registrations(ctx, acme, ids[i%50:i%50+1], kyc.Page{First: 25})
			return err
		},
		"Registrations=50x25": func(int) error { _, err := s.Registrations(ctx, acme, ids, kyc.Page{First: 25}); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				if err := ask(i); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWriteJudged is what it costs a transaction that the person it has changed is judged: a new person, a face that passes a step,
// and a change that nobody who follows the person sees. Many callers share a commit, so most of what is measured is the work itself.
func BenchmarkWriteJudged(b *testing.B) {
	judge := kyc.NewOnboardings([]kyc.Partner{{ID: acme, Require: []kyc.StepKind{kyc.StepPerson, kyc.StepFace, kyc.StepLiveness, kyc.StepIdentity}}})
	for _, v := range []struct {
		name  string
		state PersonState
	}{{"not judged", nothingNew}, {"judged", judge.Changed}} {
		for _, c := range []struct {
			name  string
			write func(kyc.Tx, *kyc.Person) error
		}{
			{"new person", func(tx kyc.Tx, _ *kyc.Person) error { return register(tx, newPerson(), false) }},
			{"face", func(tx kyc.Tx, p *kyc.Person) error {
				return tx.InsertFace(context.Background(), &kyc.FaceRegistration{
					ID: kyc.NewFaceID(), PartnerID: acme, Provider: "qitech", RegistrationKey: rand.Text(), PersonID: p.ID, DocumentNumber: p.DocumentNumber,
					Source: kyc.FaceFromImage, State: kyc.FaceRegistered, CreatedAt: epoch, UpdatedAt: epoch,
				})
			}},
			{"nothing new", func(tx kyc.Tx, p *kyc.Person) error { return tx.UpdatePerson(context.Background(), p) }},
		} {
			b.Run(v.name+"/"+c.name, func(b *testing.B) {
				s := open(b)
				s.personState = v.state
				persons := make(chan *kyc.Person, 128)
				for range cap(persons) {
					p := newPerson()
					mustWrite(b, s, func(tx kyc.Tx) error { return register(tx, p, false) })
					persons <- p
				}
				b.ReportAllocs()
				b.SetParallelism(64)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						p := <-persons
						if err := s.Write(context.Background(), func(tx kyc.Tx) error { return c.write(tx, p) }); err != nil {
							b.Error(err)
						}
						persons <- p
					}
				})
			})
		}
	}
}

func nothingNew(context.Context, kyc.Tx, kyc.PersonChange) (*kyc.PersonVersion, error) {
	return nil, nil
}
