package starlinghttp

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/starling-go/starling"
)

// TestReady: a member that is alone is ready, one that waits for others is not, nor is one that is closed.
func TestReady(t *testing.T) {
	for want, members := range map[int]int{http.StatusOK: 0, http.StatusServiceUnavailable: 2} {
		c, err := starling.New(starling.Config{BindAddr: "127.0.0.1:0", MinMembers: members, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ask := func() *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			Ready(c).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ready", nil))
			return w
		}
		if w := ask(); w.Code != want || want != http.StatusOK && !strings.Contains(w.Body.String(), "MinMembers is 2") {
			t.Errorf("%d members wanted: %d %s", members, w.Code, w.Body)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if w := ask(); w.Code != http.StatusServiceUnavailable {
			t.Errorf("closed: %d %s", w.Code, w.Body)
		}
	}
}
