package keys

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/starling-go/starling/internal/seedtest"
	"github.com/starling-go/starling/internal/wire"
)

var began = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// testKey is the key of that name.
func testKey(name byte) []byte { return bytes.Repeat([]byte{name}, 16) }

// list is the keys of those names.
func list(names string) (keys [][]byte) {
	for i := range len(names) {
		keys = append(keys, testKey(names[i]))
	}
	return keys
}

// says is a member that accepts the keys of those names and uses the first.
func says(name, names string) Peer {
	p := Peer{Name: name}
	for _, k := range list(names) {
		p.Accepts = append(p.Accepts, Print(k))
	}
	return p
}

// ringNames are the names of a ring's keys, the one in use first.
func ringNames(r *Ring) (names string) {
	for _, k := range r.Keys() {
		names += string(k[:1])
	}
	return names
}

func toldNames(r *Ring) (names string) {
	told := r.Told()
	for _, p := range told.Accepts {
		for _, k := range r.Keys() {
			if Print(k) == p {
				names += string(k[:1])
			}
		}
	}
	return names
}

// TestUses: a member sends by the first of its keys that all accept; without one, by the one that most accept.
func TestUses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		list  string
		peers []Peer
		want  string
	}{
		{"alone", "ab", nil, "a"},
		{"all accept both", "ab", []Peer{says("x", "ba"), says("y", "ab")}, "a"},
		{"one accepts the second only", "ab", []Peer{says("x", "ba"), says("y", "b")}, "b"},
		{"nothing in common with one", "ab", []Peer{says("x", "ba"), says("y", "b"), says("z", "c")}, "b"},
		{"no key in common", "ab", []Peer{says("x", "a"), says("y", "b")}, "a"},
		{"one tells nothing", "ab", []Peer{says("x", "ba"), {Name: "y"}}, "a"},
	} {
		r := New(list(tt.list))
		if r.Settle(tt.peers, began); ringNames(r)[:1] != tt.want {
			t.Errorf("%s: uses %s, want %s", tt.name, ringNames(r)[:1], tt.want)
		}
	}
	r := New(list("a"))
	unknown := []Peer{says("x", "ab"), {Name: "y"}}
	r.List(list("ba"), began)
	if r.Settle(unknown, began); ringNames(r) != "ab" {
		t.Errorf("with one that tells nothing it does not wait: %s", ringNames(r))
	}
	if lags := r.Lags(unknown); len(lags) != 1 || lags[0].Key != Print(testKey('b')) || len(lags[0].Members) != 1 || lags[0].Members[0].Name != "y" {
		t.Errorf("lags %v", lags)
	}
}

// TestDropped: a key that was dropped is accepted while somebody needs it, and for a while after the others were told that it is
// not; and never for longer than Longest.
func TestDropped(t *testing.T) {
	now := began
	step := func(r *Ring, later time.Duration, want, told string, peers ...Peer) {
		t.Helper()
		now = now.Add(later)
		r.Settle(peers, now)
		if ringNames(r) != want || toldNames(r) != told {
			t.Errorf("after %v: %s, tells %s; want %s, %s", now.Sub(began), ringNames(r), toldNames(r), want, told)
		}
	}
	r := New(list("a"))
	r.List(list("b"), now)
	step(r, 0, "ab", "ba", says("x", "a"))
	step(r, time.Minute, "ba", "ba", says("x", "ab"))
	step(r, time.Minute, "ba", "b", says("x", "b"))
	step(r, Grace-1, "ba", "b", says("x", "b"))
	step(r, 0, "ba", "ba", says("x", "ab")) // somebody has begun to use it
	step(r, 0, "ba", "b", says("x", "b"))
	step(r, Grace, "b", "b", says("x", "b"))

	now = began
	r = New(list("a"))
	r.List(list("b"), now)
	step(r, Longest-1, "ab", "ba", says("x", "a"))
	if lags := r.Lags([]Peer{says("x", "a")}); len(lags) != 2 || !lags[1].Until.Equal(began.Add(Longest)) {
		t.Errorf("lags %v", lags)
	}
	step(r, 1, "b", "b", says("x", "a"))

	now = began
	r = New(list("a"))
	r.List(list("b"), now)
	quiet := []Peer{says("x", "ba"), {Name: "y"}} // y tells nothing, and may need any
	step(r, time.Minute, "ab", "ba", quiet...)
	if _, err := r.Use(testKey('b'), true, quiet, now); err != nil {
		t.Error(err)
	}
	step(r, time.Minute, "ba", "ba", quiet...)
	if !r.Pending() || len(r.Dropped()) != 1 {
		t.Errorf("dropped %v", r.Dropped())
	}
	r.List(list("ab"), now)
	if step(r, 0, "ba", "ab", quiet...); r.Pending() {
		t.Errorf("dropped %v", r.Dropped())
	}
}

// TestByHand: what would cut somebody off is refused unless it is forced.
func TestByHand(t *testing.T) {
	r := New(list("a"))
	both, old := says("x", "ab"), says("y", "a")
	if _, err := r.Use(testKey('b'), true, nil, began); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
	for range 2 {
		if err := r.Accept(testKey('b'), began); err != nil {
			t.Fatal(err)
		}
	}
	lag, err := r.Use(testKey('b'), false, []Peer{both, old}, began)
	if r.Settle([]Peer{both, old}, began); err != nil || len(lag) != 1 || lag[0].Name != "y" || ringNames(r) != "ab" {
		t.Errorf("use: %v, %v, %s", lag, err, ringNames(r))
	}
	lag, err = r.Use(testKey('b'), true, []Peer{both, old}, began)
	if r.Settle([]Peer{both, old}, began); err != nil || lag != nil || ringNames(r) != "ba" {
		t.Errorf("use by force: %v, %v, %s", lag, err, ringNames(r))
	}
	if lag, err = r.Forget(testKey('a'), false, []Peer{both, old}); err != nil || len(lag) != 2 || ringNames(r) != "ba" {
		t.Errorf("forget: %v, %v, %s", lag, err, ringNames(r))
	}
	if lag, err = r.Forget(testKey('b'), false, []Peer{says("x", "ab"), old}); err != nil || len(lag) != 0 || ringNames(r) != "a" {
		t.Errorf("forget what nobody needs: %v, %v, %s", lag, err, ringNames(r))
	}
	if _, err = r.Forget(testKey('a'), true, nil); !errors.Is(err, ErrLast) {
		t.Errorf("forget the last: %v", err)
	}
	r = New(list("abc"))
	if lag, _ := r.Forget(testKey('a'), false, []Peer{says("x", "ba"), says("y", "ca")}); len(lag) != 1 || lag[0].Name != "y" {
		t.Errorf("forget the key in use, after which there is none that all accept: %v", lag)
	}
	r = New(list("ab"))
	if lag, _ := r.Forget(testKey('a'), false, []Peer{says("x", "bc"), says("y", "ac")}); len(lag) != 1 || lag[0].Name != "y" {
		t.Errorf("forget the key in use: %v", lag)
	}
	if _, err = r.Forget(testKey('a'), true, []Peer{says("x", "bc"), says("y", "ac")}); err != nil || ringNames(r) != "b" {
		t.Errorf("forget it by force: %v, %s", err, ringNames(r))
	}
	for name := byte('c'); len(r.listed()) < MaxListed; name++ {
		if err := r.Accept(testKey(name), began); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Accept(testKey('z'), began); !errors.Is(err, ErrFull) {
		t.Errorf("too many: %v", err)
	}
}

// TestRefused: who knows nobody, and is not understood, tries its keys in turn.
func TestRefused(t *testing.T) {
	r := New(list("ab"))
	var tried string
	for range 3 {
		used := r.Uses()
		r.Refused(used, nil)
		r.Refused(used, nil) // another seed, dialled by the same key
		r.Settle(nil, began)
		tried += ringNames(r)[:1]
	}
	if tried != "bab" {
		t.Errorf("tried %s", tried)
	}
	r.Refused(r.Uses(), []Peer{says("x", "ab")})
	if r.Settle([]Peer{says("x", "ab")}, began); ringNames(r) != "ab" {
		t.Errorf("with others it uses %s", ringNames(r))
	}
}

// TestBounded: however often the list is another one, a ring has few keys, and among them the one in use.
func TestBounded(t *testing.T) {
	r := New(list("a"))
	old := []Peer{says("x", "a")}
	for i := range byte(20) {
		r.List(list(string([]byte{'b' + i, 'c' + i, 'd' + i})), began.Add(time.Duration(i)))
		r.Settle(old, began)
	}
	if names := ringNames(r); len(names) != wire.MaxKeyPrints || names[0] != 'a' {
		t.Errorf("ring %s", names)
	}
}

// model is members whose files change at random, and who hear of each other some seconds late.
type model struct {
	rng   *rand.Rand
	now   time.Time
	rings []*Ring
	heard [][]wire.Keys // [who][of whom]
	queue []rumour
}

type rumour struct {
	at       time.Time
	from, to int
	keys     wire.Keys
}

// step lets a second pass.
func (m *model) step() {
	m.now = m.now.Add(time.Second)
	slices.SortStableFunc(m.queue, func(a, b rumour) int { return a.at.Compare(b.at) })
	for len(m.queue) > 0 && !m.queue[0].at.After(m.now) {
		q := m.queue[0]
		m.queue = m.queue[1:]
		m.heard[q.to][q.from] = q.keys
		m.settle(q.to)
	}
	for i := range m.rings {
		m.settle(i)
	}
}

// settle lets a member decide, and tell the others, who hear of it in the order in which it was told.
func (m *model) settle(i int) {
	was := m.rings[i].Told()
	m.rings[i].Settle(m.peers(i), m.now)
	m.tell(i, was)
}

func (m *model) tell(i int, was wire.Keys) {
	told := m.rings[i].Told()
	if told.Uses == was.Uses && slices.Equal(told.Accepts, was.Accepts) {
		return
	}
	for j := range m.rings {
		if j != i {
			at := m.now.Add(time.Duration(m.rng.IntN(8)) * time.Second)
			for _, q := range m.queue {
				if q.from == i && q.to == j && q.at.After(at) {
					at = q.at
				}
			}
			m.queue = append(m.queue, rumour{at, i, j, told})
		}
	}
}

func (m *model) peers(i int) (peers []Peer) {
	for j, k := range m.heard[i] {
		if j != i {
			peers = append(peers, Peer{fmt.Sprint(j), k})
		}
	}
	return peers
}

// cut returns who does not accept what another one uses.
func (m *model) cut() string {
	for i, r := range m.rings {
		for j, other := range m.rings {
			if find(other.keys, r.uses) < 0 {
				return fmt.Sprintf("%d uses %s, %d has %s", i, ringNames(r), j, ringNames(other))
			}
		}
	}
	return ""
}

// TestAnyOrder: files change in any order, to any lists, and what is told arrives late: everybody always understands everybody, and when all
// files are equal, all use their first key and have no other.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(seedtest.Number(t, "STARLING_RUNS", 8)) {
		m := &model{rng: rand.New(rand.NewPCG(seed, 1)), now: began}
		n := 2 + m.rng.IntN(5)
		all := New(list("a")).Told()
		for range n {
			m.rings = append(m.rings, New(list("a")))
			m.heard = append(m.heard, slices.Repeat([]wire.Keys{all}, n))
		}
		quiet := 0
		for second := 0; quiet < 120; second++ {
			if second < 600 && m.rng.IntN(20) == 0 || second == 600 {
				for i, r := range m.rings {
					if m.rng.IntN(3) > 0 && second < 600 {
						continue
					}
					names := []byte("abcd")
					m.rng.Shuffle(len(names), func(a, b int) { names[a], names[b] = names[b], names[a] })
					if names = names[:1+m.rng.IntN(3)]; second == 600 {
						names = []byte("ab")
					}
					was := r.Told()
					r.List(list(string(names)), m.now)
					m.tell(i, was)
				}
			}
			m.step()
			if c := m.cut(); c != "" {
				t.Fatalf("seed %d, second %d: %s", seed, second, c)
			}
			if second > 600 {
				quiet++
			}
		}
		for i, r := range m.rings {
			if ringNames(r) != "ab" {
				t.Fatalf("seed %d: in the end %d has %s", seed, i, ringNames(r))
			}
		}
	}
}
