package server

import (
	"container/list"
	"sync"
)

// lru is a bounded map that forgets what was not asked for the longest. Its zero value is not usable.
type lru[V any] struct {
	mu    sync.Mutex
	size  int
	order *list.List // of *lruEntry[V], the most recent first
	index map[string]*list.Element
}

type lruEntry[V any] struct {
	key   string
	value V
}

func newLRU[V any](size int) *lru[V] {
	return &lru[V]{size: size, order: list.New(), index: make(map[string]*list.Element, size)}
}

func (c *lru[V]) get(key string) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.index[key]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*lruEntry[V]).value, true
}

func (c *lru[V]) put(key string, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.index[key]; ok {
		e.Value.(*lruEntry[V]).value = v
		c.order.MoveToFront(e)
		return
	}
	if c.order.Len() >= c.size {
		last := c.order.Back()
		delete(c.index, last.Value.(*lruEntry[V]).key)
		c.order.Remove(last)
	}
	c.index[key] = c.order.PushFront(&lruEntry[V]{key: key, value: v})
}

func (c *lru[V]) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}
