// The Kyverno policy is the API server's, in Kyverno's words: what differs is where the parameters come from. So the table in
// admission_test.go speaks for both, as far as Kyverno evaluates CEL as the API server does; Kyverno itself is not run.
package kubernetes

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	kyverno "github.com/kyverno/api/api/policies.kyverno.io/v1"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	syaml "sigs.k8s.io/yaml"
)

const (
	fromParameters = `params.?data[?"image"].orValue("")`
	fromKyverno    = `resource.Get("v1", "configmaps", "bearerd-system", "bearerd-injection").?data[?"image"].orValue("")`
)

func TestKyvernoPolicy(t *testing.T) {
	content, err := os.ReadFile(k8s + "/inject/kyverno/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("every field is known to its type", func(t *testing.T) {
		var policy kyverno.MutatingPolicy
		if err := syaml.UnmarshalStrict(content, &policy); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("it fits Kyverno's schema", func(t *testing.T) {
		validator := kyvernoSchema(t)
		var policy map[string]any
		if err := syaml.Unmarshal(content, &policy); err != nil {
			t.Fatal(err)
		}
		for _, problem := range validator.Validate(policy).Errors {
			t.Error(problem)
		}
		policy["spec"].(map[string]any)["failurePolicy"] = "Maybe"
		if validator.Validate(policy).IsValid() {
			t.Error("a wrong word is nothing to it")
		}
	})
	t.Run("it has the rules of the other policy", func(t *testing.T) {
		other, err := os.ReadFile(injection + "/policy.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(other), fromParameters) != 1 || strings.Count(string(content), fromKyverno) != 1 {
			t.Fatal("the image should come from the parameters, once")
		}
		other = []byte(strings.Replace(string(other), fromParameters, fromKyverno, 1))
		one, another := specOf(t, content), specOf(t, other)
		delete(another, "paramKind")
		if one, another := asJSON(t, one), asJSON(t, another); one != another {
			t.Fatalf("%s\nis not\n%s", one, another)
		}
	})
}

func specOf(t *testing.T, content []byte) map[string]any {
	t.Helper()
	var policy struct{ Spec map[string]any }
	if err := syaml.Unmarshal(content, &policy); err != nil {
		t.Fatal(err)
	}
	return policy.Spec
}

func asJSON(t *testing.T, it any) string {
	t.Helper()
	out, err := json.MarshalIndent(it, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
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
