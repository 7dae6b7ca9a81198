// Package starlinghttp tells over HTTP how a member of a cluster is doing:
//
//	http.Handle("/ready", starlinghttp.Ready(c))
package starlinghttp

import (
	"io"
	"net/http"

	"github.com/starling-go/starling"
)

// Ready answers 200 while the member is ready, and 503 with the reason while it is not: what a readiness probe of Kubernetes asks. It does
// not wait. See starling.Cluster.Ready.
func Ready(c *starling.Cluster) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if e := c.Health().NotReady; e != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, e.Error()+"\n")
			return
		}
		io.WriteString(w, "ready\n")
	})
}
