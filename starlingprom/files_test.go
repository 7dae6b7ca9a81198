package starlingprom

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

var descText = regexp.MustCompile(`fqName: "([^"]*)", help: "([^"]*)"`)

// shown returns the metrics that a Collector may have, with what they mean.
func shown() map[string]string {
	descs := make(chan *prometheus.Desc, 200)
	New(nil, nil).Describe(descs)
	close(descs)
	names := map[string]string{}
	for d := range descs {
		m := descText.FindStringSubmatch(d.String())
		names[m[1]] = m[2]
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFilesNameMetrics: the alerts and the dashboard name no metric that is none, and the README has all of them, as they describe themselves.
func TestFilesNameMetrics(t *testing.T) {
	metrics := shown()
	parts := regexp.MustCompile(`_(bucket|count|sum)$`)
	names := regexp.MustCompile(`\bstarling_[a-z_]+`)
	for _, file := range []string{"alerts.yml", "alerts_test.yml", "dashboard.json", "README.md"} {
		found := names.FindAllString(read(t, file), -1)
		for _, name := range found {
			if metrics[parts.ReplaceAllString(name, "")] == "" {
				t.Errorf("%s names %s, which is no metric", file, name)
			}
		}
		if len(found) < 20 {
			t.Errorf("%s names %d metrics only", file, len(found))
		}
	}
	readme, dashboard := read(t, "README.md"), read(t, "dashboard.json")
	for name, help := range metrics {
		if !strings.Contains(readme, "| `"+name+"` | ") || !strings.Contains(readme, help) {
			t.Errorf("README.md lacks %s: %s", name, help)
		}
		if !strings.Contains(dashboard, name) && name != "starling_cluster_peer_info" && name != "starling_peer_position" {
			t.Errorf("dashboard.json does not show %s", name)
		}
	}
}

// TestAlertsAreTested: each alert is among those that alerts_test.yml awaits. What they do is for promtool, see ci/rules.sh.
func TestAlertsAreTested(t *testing.T) {
	tests := read(t, "alerts_test.yml")
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(read(t, "alerts.yml"), -1)
	for _, alert := range alerts {
		if !strings.Contains(tests, `alertname="`+alert[1]+`"`) {
			t.Errorf("%s is not tested", alert[1])
		}
	}
	if len(alerts) < 10 {
		t.Errorf("only %d alerts were found", len(alerts))
	}
}

// TestDashboard: it is what Grafana reads: each panel has a place, a title, and questions.
func TestDashboard(t *testing.T) {
	var d struct {
		Title, UID string
		Panels     []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.Type != "row" && len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%q lies on %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			if target.Expr == "" {
				t.Errorf("panel %q asks nothing", p.Title)
			}
		}
	}
	if d.Title != "Starling" || d.UID == "" || len(d.Panels) < 30 {
		t.Errorf("%q %q with %d panels", d.Title, d.UID, len(d.Panels))
	}
}
