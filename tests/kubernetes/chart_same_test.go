// The chart says nothing of its own: with values that wish for nothing it renders what Kustomize does.
package kubernetes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	syaml "sigs.k8s.io/yaml"
)

// What is in the namespace of the release, which Helm does not write, and Kustomize only where it is told.
func byName(t *testing.T, content []byte, namespace string) map[string]object {
	t.Helper()
	objects, err := decoded(content)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]object{}
	for _, o := range objects {
		if o.GetNamespace() == namespace {
			o.SetNamespace("")
		}
		if o.GetKind() != "Namespace" {
			found[o.GetAPIVersion()+" "+o.GetNamespace()+" "+o.where()] = o
		}
	}
	return found
}

func TestChartIsTheSameAsKustomize(t *testing.T) {
	if os.Getenv("HELM") == "" {
		t.Skip("no HELM; run.mjs builds it")
	}
	// A packaged chart has no links, and what Helm left out of it is not there.
	packages := t.TempDir()
	helm(t, "package", chart, "--destination", packages)
	packaged, err := filepath.Glob(packages + "/*.tgz")
	if err != nil || len(packaged) != 1 {
		t.Fatalf("helm package made %v (%v)", packaged, err)
	}
	for _, one := range []struct {
		folder, namespace string
		values            []string
	}{
		{"gateway", "apps", []string{"--values", chart + "/ci/gateway.yaml"}},
		{"examples/egress-gateway", "egress", []string{
			"--values", chart + "/ci/gateway.yaml", "--set", "gateway.tls.certManager=true",
			"--set", "gateway.tls.clients.batch=spiffe://gateway/batch",
		}},
		{"inject/mutating-admission-policy", "bearerd-system", []string{"--values", chart + "/ci/injection.yaml"}},
		{"inject/kyverno", "bearerd-system", []string{"--values", chart + "/ci/injection-kyverno.yaml"}},
	} {
		t.Run(one.folder, func(t *testing.T) {
			expected := byName(t, rendered(t, k8s+"/"+one.folder), one.namespace)
			for _, from := range []string{chart, packaged[0]} {
				arguments := append([]string{"template", "bearerd", from, "--namespace", one.namespace}, one.values...)
				actual := byName(t, helm(t, arguments...), one.namespace)
				for key, o := range expected {
					if !equality.Semantic.DeepEqual(o.Object, actual[key].Object) {
						wanted, _ := syaml.Marshal(o.Object)
						got, _ := syaml.Marshal(actual[key].Object)
						t.Errorf("%s of %s: %s\nis not what Kustomize renders: %s", key, from, got, wanted)
					}
				}
				for key := range actual {
					if _, is := expected[key]; !is {
						t.Errorf("%s of %s: Kustomize renders no such thing", key, from)
					}
				}
			}
		})
	}
}

// Values that are refused, and by which word of theirs.
func TestChartRefuses(t *testing.T) {
	if os.Getenv("HELM") == "" {
		t.Skip("no HELM; run.mjs builds it")
	}
	for _, one := range []struct{ set, word string }{
		{"injection.method=webhook", "/injection/method"},
		{"image.digest=", "/image/digest"},
		{"image.digest=v1.2.3", "/image/digest"},
		{"image.tag=v1.2.3", "tag"},
		{"gateway.enable=true", "enable"},
		{"gateway.replicas=many", "/gateway/replicas"},
		{"gateway.tls.issuerRef.kind=ClusterIssuer", "name"},
		{"gateway.tls.clients.batch=batch", "/gateway/tls/clients/batch"},
		{"gateway.pod.containers=none", "/gateway/pod/containers"},
	} {
		t.Run(one.set, func(t *testing.T) {
			values := []string{"--values", chart + "/ci/gateway.yaml", "--set", one.set}
			command := exec.Command(os.Getenv("HELM"), append([]string{"template", "bearerd", chart}, values...)...)
			said, err := command.CombinedOutput()
			if err == nil || !strings.Contains(string(said), one.word) {
				t.Errorf("it ends with %v, and says\n%s", err, said)
			}
		})
	}
}

func TestChartKnowsTheFirstVersionOfMutatingAdmissionPolicy(t *testing.T) {
	if os.Getenv("HELM") == "" {
		t.Skip("no HELM; run.mjs builds it")
	}
	for version, good := range map[string]bool{"1.35": false, "1.36": true} {
		arguments := []string{"template", "bearerd", chart, "--values", chart + "/ci/injection.yaml", "--kube-version", version}
		said, err := exec.Command(os.Getenv("HELM"), arguments...).CombinedOutput()
		if (err == nil) != good || !good && !strings.Contains(string(said), "injection.method: kyverno") {
			t.Errorf("%s: it ends with %v, and says\n%s", version, err, said)
		}
	}
}
