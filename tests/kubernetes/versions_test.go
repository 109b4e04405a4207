// Each expression of k8s/inject/ compiles with what the oldest server that it is for can do.
package kubernetes

import (
	"testing"

	"github.com/google/cel-go/cel"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/mutation"
)

// As a server of that version compiles what is new to it.
func compiles(t *testing.T, minor uint, expression string) error {
	t.Helper()
	base, err := environment.MustBaseEnvSet(version.MajorMinor(1, minor)).Env(environment.NewExpressions)
	if err != nil {
		t.Fatal(err)
	}
	env, err := base.Extend(
		cel.Variable("object", cel.DynType), cel.Variable("variables", cel.DynType),
		common.ResolverEnvOption(&mutation.DynamicTypeResolver{}))
	if err != nil {
		t.Fatal(err)
	}
	_, issues := env.Compile(expression)
	return issues.Err()
}

func TestOldServersKnowTheExpressions(t *testing.T) {
	objects, err := decoded(rendered(t, injection))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		var minor uint
		var variables []admissionv1.Variable
		var conditions []admissionv1.MatchCondition
		var expressions []string
		switch policy := o.typed.(type) {
		case *admissionv1.ValidatingAdmissionPolicy:
			minor, variables, conditions = 30, policy.Spec.Variables, policy.Spec.MatchConditions
			for _, validation := range policy.Spec.Validations {
				expressions = append(expressions, validation.Expression)
				if validation.MessageExpression != "" {
					expressions = append(expressions, validation.MessageExpression)
				}
			}
		case *admissionv1.MutatingAdmissionPolicy:
			// Where it has to be switched on; by default it is from 1.36 on.
			minor, variables, conditions = 34, policy.Spec.Variables, policy.Spec.MatchConditions
			for _, mutation := range policy.Spec.Mutations {
				expressions = append(expressions, mutation.JSONPatch.Expression)
			}
		default:
			continue
		}
		for _, variable := range variables {
			expressions = append(expressions, variable.Expression)
		}
		for _, condition := range conditions {
			// Kyverno hands its own to the server, for its webhook, and goes with this from 1.30 on.
			if err := compiles(t, 30, condition.Expression); err != nil {
				t.Errorf("%s, 1.30: %v", o.where(), err)
			}
		}
		for _, expression := range expressions {
			if err := compiles(t, minor, expression); err != nil {
				t.Errorf("%s, 1.%d: %v", o.where(), minor, err)
			}
		}
	}
	if compiles(t, 30, `format.dns1123Label().validate("a").hasValue()`) == nil {
		t.Error("1.30 knows what 1.31 brought")
	}
}
