// Kyverno has the API server's policy, under a kind of its own. So the table in admission_test.go speaks for both, as far as
// Kyverno evaluates CEL as the API server does; Kyverno itself is not run.
package kubernetes

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	kyverno "github.com/kyverno/api/api/policies.kyverno.io/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	syaml "sigs.k8s.io/yaml"
)

func TestKyvernoPolicy(t *testing.T) {
	content, spec := policyOf(t, k8s+"/inject/kyverno", "MutatingPolicy")
	t.Run("every field is known to its type", func(t *testing.T) {
		var policy kyverno.MutatingPolicy
		if err := syaml.UnmarshalStrict(content, &policy); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("it fits Kyverno's schema", func(t *testing.T) {
		validator := kyvernoSchema(t)
		policy := map[string]any{"spec": spec}
		for _, problem := range validator.Validate(policy).Errors {
			t.Error(problem)
		}
		wrong := maps.Clone(spec)
		wrong["failurePolicy"] = "Maybe"
		if validator.Validate(map[string]any{"spec": wrong}).IsValid() {
			t.Error("a wrong word is nothing to it")
		}
	})
	t.Run("it has the rules of the other policy", func(t *testing.T) {
		if _, other := policyOf(t, injection, "MutatingAdmissionPolicy"); !reflect.DeepEqual(spec, other) {
			t.Fatalf("%v\nis not\n%v", spec, other)
		}
	})
}

// The policy of that kind as it is rendered, and its rules.
func policyOf(t *testing.T, folder, kind string) ([]byte, map[string]any) {
	t.Helper()
	objects, err := decoded(rendered(t, folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if o.GetKind() == kind {
			content, err := syaml.Marshal(o.Object)
			if err != nil {
				t.Fatal(err)
			}
			return content, o.Object["spec"].(map[string]any)
		}
	}
	t.Fatalf("%s has no %s", folder, kind)
	return nil, nil
}

// The schema of the CustomResourceDefinition that comes with the types.
func kyvernoSchema(t *testing.T) *validate.SchemaValidator {
	t.Helper()
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/kyverno/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(strings.TrimSpace(string(folder)), "config/crds/policies.kyverno.io_mutatingpolicies.yaml")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var definition struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema spec.Schema }
			}
		}
	}
	if err := syaml.Unmarshal(content, &definition); err != nil {
		t.Fatal(err)
	}
	for _, version := range definition.Spec.Versions {
		if version.Name == "v1" {
			return validate.NewSchemaValidator(&version.Schema.OpenAPIV3Schema, nil, "", strfmt.Default)
		}
	}
	t.Fatal("it has no version v1")
	return nil
}
