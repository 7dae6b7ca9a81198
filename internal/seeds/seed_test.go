package seeds

import (
	"strings"
	"testing"
)

// TestParse: what people write, and what is wrong with what can never work.
func TestParse(t *testing.T) {
	for _, tt := range []struct {
		text   string
		port   int // the default
		is     string
		faults string
	}{
		{text: "10.0.0.7", port: 7946, is: "10.0.0.7:7946"},
		{text: "10.0.0.7:80", is: "10.0.0.7:80"},
		{text: "::1", port: 7, is: "[::1]:7"},
		{text: "[::1]", port: 7, is: "[::1]:7"},
		{text: "[::1]:80", port: 7, is: "[::1]:80"},
		{text: "::ffff:10.0.0.7", port: 7, is: "10.0.0.7:7"},
		{text: "dns+10.0.0.7", port: 7, is: "10.0.0.7:7"},
		{text: "name", port: 7, is: "name:7"},
		{text: "dns+name:80", is: "name:80"},
		{text: "dnssrv+_starling._tcp.example", is: "_starling._tcp.example:0"},
		{text: "dnssrv+name", port: 7, is: "name:0"},

		{text: "", port: 7, faults: "no host"},
		{text: "", faults: "no host"},
		{text: ":80", faults: "no host"},
		{text: "dns+", port: 7, faults: "no host"},
		{text: "dnssrv+", port: 7, faults: "no host"},
		{text: "dnssrv+name:80", faults: "the records tell the port"},
		{text: "dnssrv+10.0.0.7", faults: "an address has no records"},
		{text: "dnssrv+[::1]", faults: "an address has no records"},
		{text: "name", faults: "no port, and port 0 of BindAddr"},
		{text: "10.0.0.7", faults: "no port, and port 0 of BindAddr"},
		{text: "name:0", port: 7, faults: `port "0": must be between 1 and 65535`},
		{text: "name:http", port: 7, faults: `port "http"`},
		{text: "name:65536", port: 7, faults: "must be between 1 and 65535"},
		{text: "a:b:c", port: 7, faults: "want host:port"},
		{text: "0.0.0.0:80", faults: "unspecified"},
		{text: "[::]:80", faults: "unspecified"},
		{text: "a,b", port: 7, faults: "several in one string"},
		{text: "a:80\n", faults: "white space"},
		{text: "${POD_IP}:80", faults: "a variable"},
		{text: "srv+name", port: 7, faults: `unknown scheme "srv+": "dns+" and "dnssrv+" are known`},
		{text: "dnssrvnoa+name", port: 7, faults: `unknown scheme "dnssrvnoa+"`},
		{text: "dns+dns+name", port: 7, faults: `"dns+" after "dns+": give one`},
		{text: "dns+dnssrv+name", port: 7, faults: `"dnssrv+" after "dns+": give one`},
	} {
		s, err := Parse(tt.text, tt.port)
		switch {
		case tt.faults != "":
			if err == nil || !strings.Contains(err.Error(), tt.faults) {
				t.Errorf("%q: %v, want %q", tt.text, err, tt.faults)
			}
		case err != nil:
			t.Errorf("%q: %v", tt.text, err)
		case s.Text != tt.text || s.String() != tt.is:
			t.Errorf("%q is %v, want %s", tt.text, s, tt.is)
		}
	}
}
