package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with the configuration. It never holds the value of a secret.
type Problem struct {
	Setting string // the full path of the setting, e.g. "providers.unico.api_keys[0].key"
	Problem string // what is wrong with it and what to do
	Line    int    // the line of the configuration file, 0 if there is none
}

func (p Problem) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s: %s (line %d)", p.Setting, p.Problem, p.Line)
	}
	return p.Setting + ": " + p.Problem
}

// Error is everything that is wrong with the configuration, at once: nobody wants to mend it one start at
// a time.
type Error struct {
	Problems []Problem
}

func (e *Error) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.String()
	}
	return "configuration: " + strings.Join(texts, "; ")
}

// Wrong makes the Error of a single setting, for those who find out later than [Config.Validate] can.
func Wrong(setting, format string, args ...any) *Error {
	return &Error{Problems: []Problem{{Setting: setting, Problem: fmt.Sprintf(format, args...)}}}
}

// problems collects what is wrong.
type problems struct {
	list []Problem
}

func (p *problems) add(setting, format string, args ...any) {
	p.addLine(0, setting, format, args...)
}

func (p *problems) addLine(line int, setting, format string, args ...any) {
	p.list = append(p.list, Problem{Setting: setting, Problem: fmt.Sprintf(format, args...), Line: line})
}

// err gives what was collected as an error, in the order of the file where there is one.
func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	slices.SortStableFunc(p.list, func(a, b Problem) int {
		switch {
		case a.Line == 0 && b.Line == 0:
			return 0
		case a.Line == 0:
			return 1
		case b.Line == 0:
			return -1
		}
		return cmp.Compare(a.Line, b.Line)
	})
	return &Error{Problems: p.list}
}
