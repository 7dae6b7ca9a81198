package interop

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// manifests are the objects in deploy/kubernetes, by kind and name.
func manifests(t *testing.T) map[string]map[string]any {
	t.Helper()
	objects := map[string]map[string]any{}
	files, err := filepath.Glob("../deploy/kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no manifests", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
			object := map[string]any{}
			if err := d.Decode(&object); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			key := at[string](t, object, "kind") + "/" + at[string](t, object, "metadata", "name")
			if objects[key] != nil {
				t.Errorf("%s: %s is there twice", file, key)
			}
			objects[key] = object
		}
	}
	return objects
}

// at returns what is at a path of keys and indices.
func at[T any](t *testing.T, v any, path ...any) T {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[step]
		case int:
			l, _ := v.([]any)
			if step >= len(l) {
				t.Fatalf("nothing at %v", path)
			}
			v = l[step]
		}
	}
	value, ok := v.(T)
	if !ok {
		t.Fatalf("%v is at %v, and should be another type", v, path)
	}
	return value
}

// named returns the element of a list that has that name.
func named(t *testing.T, list []any, name string) map[string]any {
	t.Helper()
	for _, e := range list {
		if m, _ := e.(map[string]any); m["name"] == name {
			return m
		}
	}
	t.Fatalf("nothing is called %q in %v", name, list)
	return nil
}

// TestKubernetesManifests reads the manifests and holds what must fit together in them against each other: a pod that nobody finds, or
// that is killed before it has left, would be seen in a cluster only.
func TestKubernetesManifests(t *testing.T) {
	objects := manifests(t)
	members := objects["Service/flags-members"]
	if at[string](t, members, "spec", "clusterIP") != "None" || !at[bool](t, members, "spec", "publishNotReadyAddresses") {
		t.Error("the members' Service does not give the addresses of pods that are not ready")
	}
	label := at[string](t, members, "spec", "selector", "app.kubernetes.io/name")
	checkPorts(t, "Service/flags-members", at[[]any](t, members, "spec", "ports"), "port")
	for _, kind := range []string{"Deployment", "StatefulSet"} {
		workload := objects[kind+"/flags"]
		pod := at[map[string]any](t, workload, "spec", "template")
		for _, got := range []string{
			at[string](t, workload, "spec", "selector", "matchLabels", "app.kubernetes.io/name"),
			at[string](t, pod, "metadata", "labels", "app.kubernetes.io/name"),
		} {
			if got != label {
				t.Errorf("%s: label %q, and the Service selects %q", kind, got, label)
			}
		}
		checkPod(t, kind, at[map[string]any](t, pod, "spec"))
	}
	if got := at[string](t, objects["StatefulSet/flags"], "spec", "serviceName"); got != "flags-members" {
		t.Errorf("the StatefulSet is served by %q", got)
	}
	policy := objects["NetworkPolicy/flags"]
	checkPorts(t, "NetworkPolicy, ingress", at[[]any](t, policy, "spec", "ingress", 0, "ports"), "port")
	checkPorts(t, "NetworkPolicy, egress", at[[]any](t, policy, "spec", "egress", 0, "ports"), "port")
	for _, key := range []string{"NetworkPolicy/flags", "PodDisruptionBudget/flags"} {
		selector := "podSelector"
		if strings.HasPrefix(key, "Pod") {
			selector = "selector"
		}
		if got := at[string](t, objects[key], "spec", selector, "matchLabels", "app.kubernetes.io/name"); got != label {
			t.Errorf("%s selects %q, and pods are %q", key, got, label)
		}
	}
}

// checkPod checks a pod's times, ports, variables, probes and keys.
func checkPod(t *testing.T, kind string, pod map[string]any) {
	t.Helper()
	c := named(t, at[[]any](t, pod, "containers"), "flags")
	checkPorts(t, kind, at[[]any](t, c, "ports"), "containerPort")
	const program = 20 // seconds that the program of docs/kubernetes.md gives its requests and Leave
	grace, sleep := at[int](t, pod, "terminationGracePeriodSeconds"), at[int](t, c, "lifecycle", "preStop", "sleep", "seconds")
	if grace < sleep+program+10 {
		t.Errorf("%s: %d s are too short for %d s of preStop, %d s of the program, and the end of handlers", kind, grace, sleep, program)
	}
	env := at[[]any](t, c, "env")
	if got := at[string](t, named(t, env, "POD_IP"), "valueFrom", "fieldRef", "fieldPath"); got != "status.podIP" {
		t.Errorf("%s: POD_IP is %q", kind, got)
	}
	if got := at[string](t, named(t, env, "SEEDS"), "value"); got != "dns+flags-members:7946" {
		t.Errorf("%s: the seeds are %q", kind, got)
	}
	for probe, path := range map[string]string{"readinessProbe": "/ready", "livenessProbe": "/alive"} {
		if got := at[string](t, c, probe, "httpGet", "path"); got != path {
			t.Errorf("%s: %s asks %s", kind, probe, got)
		}
	}
	mount, volume := named(t, at[[]any](t, c, "volumeMounts"), "keys"), named(t, at[[]any](t, pod, "volumes"), "keys")
	dir, _ := filepath.Split(at[string](t, named(t, env, "KEYS_FILE"), "value"))
	if at[string](t, mount, "mountPath")+"/" != dir || mount["subPath"] != nil {
		t.Errorf("%s: the keys are mounted by %v", kind, mount)
	}
	if mode := at[int](t, volume, "secret", "defaultMode"); mode&0o337 != 0 {
		t.Errorf("%s: the keys have mode %o", kind, mode)
	}
}

// checkPorts checks that a list of ports has the members' port by UDP and by TCP.
func checkPorts(t *testing.T, where string, ports []any, field string) {
	t.Helper()
	var has []string
	for _, p := range ports {
		if at[int](t, p, field) == 7946 {
			has = append(has, at[string](t, p, "protocol"))
		}
	}
	slices.Sort(has)
	if !slices.Equal(has, []string{"TCP", "UDP"}) {
		t.Errorf("%s: port 7946 is there by %v", where, has)
	}
}
