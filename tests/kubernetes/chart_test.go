// The Helm chart, linted and rendered by the real Helm with each of the values files in k8s/chart/ci/.
package kubernetes

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const chart = k8s + "/chart"

// The values files, by the name of their golden file.
func charts(t *testing.T) map[string]string {
	files, err := filepath.Glob(chart + "/ci/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, file := range files {
		found["chart-"+strings.TrimSuffix(filepath.Base(file), ".yaml")] = file
	}
	return found
}

func helm(t *testing.T, arguments ...string) []byte {
	t.Helper()
	command := exec.Command(os.Getenv("HELM"), arguments...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("helm %s: %v\n%s%s", strings.Join(arguments, " "), err, out, &stderr)
	}
	return out
}

func TestChart(t *testing.T) {
	if _, err := os.Stat(chart); os.IsNotExist(err) {
		t.Skip("there is no chart")
	}
	if os.Getenv("HELM") == "" {
		t.Skip("no HELM; run.mjs builds it")
	}
	files := charts(t)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		values := files[name]
		t.Run(name, func(t *testing.T) {
			t.Run("helm lint --strict", func(t *testing.T) { helm(t, "lint", "--strict", chart, "--values", values) })
			checkManifests(t, name, helm(t, "template", "bearerd", chart, "--namespace", "apps", "--values", values))
		})
	}
}
