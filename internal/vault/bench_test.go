package vault

import "testing"

// The cost of the keyset beside a commit, which takes hundreds of microseconds. Wrap includes the look at
// the file.

func BenchmarkIndex(b *testing.B) {
	k := inMemory(b)
	b.ReportAllocs()
	for b.Loop() {
		k.Index("acme", "document_number", "52998224725")
	}
}

func BenchmarkIndexParallel(b *testing.B) {
	k := inMemory(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			k.Index("acme", "document_number", "52998224725")
		}
	})
}

func BenchmarkWrap(b *testing.B) {
	_, k := made(b)
	key, associated := make([]byte, 32), []byte("acme|per_01JD7XK8Z3N4Q5R6S7T8V9WABC")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Wrap(key, associated); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnwrap(b *testing.B) {
	_, k := made(b)
	associated := []byte("acme|per_01JD7XK8Z3N4Q5R6S7T8V9WABC")
	wrapped := wrap(b, k, "0123456789abcdef0123456789abcdef", string(associated))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Unwrap(wrapped, associated); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMAC(b *testing.B) {
	k, row := inMemory(b), make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		k.MAC(row)
	}
}

func BenchmarkSign(b *testing.B) {
	k, head := inMemory(b), make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		k.Sign(head)
	}
}

// BenchmarkOpen is what a start of the gateway pays.
func BenchmarkOpen(b *testing.B) {
	path, _ := protected(b)
	b.ReportAllocs()
	for b.Loop() {
		opened(b, path)
	}
}
