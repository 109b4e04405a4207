// k8s/inject/ run by the API server's own admission chain: its plugins for mutating and validating policies, which compile the
// CEL, choose the pods, patch, decode strictly, and are asked again when a later plugin changed the pod.
// Around it stand fake clients, so there is no server, no defaulting and no validation of the pod itself.
package kubernetes

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/initializer"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/discovery"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/openapi/openapitest"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	syaml "sigs.k8s.io/yaml"
)

const injection = k8s + "/inject/mutating-admission-policy"

func TestMain(m *testing.M) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	os.Exit(m.Run())
}

// A clientset that knows the schemas of the core types; the fake one knows none.
type clientset struct{ *fake.Clientset }

type discoverer struct{ discovery.DiscoveryInterfaces }

func (c clientset) Discovery() discovery.DiscoveryInterfaces {
	return discoverer{c.Clientset.Discovery()}
}

func (discoverer) OpenAPIV3() openapi.Client { return openapitest.NewEmbeddedFileClient() }

func restMapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace)
	return mapper
}

// A plugin that comes after the policies, as the webhook of a mesh does.
type another struct{ change func(*corev1.Pod) }

func (another) Handles(operation admission.Operation) bool { return operation == admission.Create }

func (a another) Admit(_ context.Context, attributes admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.change == nil {
		return nil
	}
	pod := attributes.GetObject().(*corev1.Pod)
	before := pod.DeepCopy()
	a.change(pod)
	if !equality.Semantic.DeepEqual(before, pod) {
		attributes.GetReinvocationContext().SetShouldReinvoke()
	}
	return nil
}

// The chain of an API server that has these objects; `change` is what a later plugin does to a pod, each time it is asked.
func chain(t *testing.T, objects []object, change func(*corev1.Pod)) admission.Interface {
	t.Helper()
	var typed []runtime.Object
	for _, o := range objects {
		typed = append(typed, withDefaults(o))
	}
	typed = append(typed, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apps"}})
	client := clientset{fake.NewClientset(typed...)}
	factory := informers.NewSharedInformerFactory(client, 0)
	plugins := admission.NewPlugins()
	mutating.Register(plugins)
	validating.Register(plugins)
	plugins.Register("Another", func(io.Reader) (admission.Interface, error) { return another{change}, nil })
	ctx := t.Context()
	start := initializer.New(client, dynamicfake.NewSimpleDynamicClient(scheme.Scheme), factory,
		authorizerfactory.NewAlwaysAllowAuthorizer(), utilfeature.DefaultFeatureGate, nil, ctx.Done(), restMapper())
	names := []string{mutating.PluginName, "Another", validating.PluginName}
	none := configProvider{}
	handler, err := plugins.NewFromPlugins(names, none, start, nil)
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return handler
}

// What the server fills in when it stores a policy.
func withDefaults(o object) runtime.Object {
	var constraints *admissionv1.MatchResources
	switch typed := o.typed.(type) {
	case *admissionv1.MutatingAdmissionPolicy:
		constraints = typed.Spec.MatchConstraints
	case *admissionv1.ValidatingAdmissionPolicy:
		constraints = typed.Spec.MatchConstraints
	default:
		return o.typed
	}
	if constraints.NamespaceSelector == nil {
		constraints.NamespaceSelector = &metav1.LabelSelector{}
	}
	if constraints.ObjectSelector == nil {
		constraints.ObjectSelector = &metav1.LabelSelector{}
	}
	if constraints.MatchPolicy == nil {
		constraints.MatchPolicy = ptr.To(admissionv1.Equivalent)
	}
	return o.typed
}

type configProvider struct{}

func (configProvider) ConfigFor(string) (io.Reader, error) { return nil, nil }

// Asks the chain about an object, as it stands in the request; a mutation changes it.
func admit(handler admission.Interface, operation admission.Operation, o, old runtime.Object, resource string) error {
	gvk := o.GetObjectKind().GroupVersionKind()
	attributes := admission.NewAttributesRecord(o, old, gvk, "apps", "app", gvk.GroupVersion().WithResource(resource), "",
		operation, &metav1.CreateOptions{}, false, &user.DefaultInfo{Name: "somebody"})
	interfaces := admission.NewObjectInterfacesFromScheme(scheme.Scheme)
	if err := handler.(admission.MutationInterface).Admit(context.Background(), attributes, interfaces); err != nil {
		return err
	}
	return handler.(admission.ValidationInterface).Validate(context.Background(), attributes, interfaces)
}

// Creates a pod as a client would; what comes back is what would be stored.
func create(handler admission.Interface, pod *corev1.Pod) (*corev1.Pod, error) {
	created := pod.DeepCopy()
	created.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	err := admit(handler, admission.Create, created, nil, "pods")
	created.TypeMeta = pod.TypeMeta
	return created, err
}

func readPod(t *testing.T, path string) *corev1.Pod {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := decoded(content)
	if err != nil {
		t.Fatal(err)
	}
	return objects[0].typed.(*corev1.Pod)
}

// Each pod of pods/ goes through; one that is to be refused says so in its first line.
func TestInjection(t *testing.T) {
	content := rendered(t, injection)
	objects, err := decoded(content)
	if err != nil {
		t.Fatal(err)
	}
	handler := chain(t, objects, nil)
	files, err := filepath.Glob("pods/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(err, "no pods")
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) { checkInjection(t, handler, file) })
	}
}

func checkInjection(t *testing.T, handler admission.Interface, file string) {
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	expectation, _, _ := strings.Cut(string(content), "\n")
	before := readPod(t, file)
	after, err := create(handler, before)
	if refusal, is := strings.CutPrefix(expectation, "# refused: "); is {
		if err == nil || !strings.Contains(err.Error(), refusal) {
			t.Fatalf("it should be refused with %q, but: %v", refusal, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(expectation, "# left alone") {
		if !equality.Semantic.DeepEqual(before, after) {
			t.Fatalf("it was changed: %s", asYAML(t, after))
		}
		return
	}
	if !strings.HasPrefix(expectation, "# injected") {
		t.Fatalf("the first line of %s says neither `# injected`, `# left alone` nor `# refused: `", file)
	}

	out := asYAML(t, after)
	checkManifests(t, "injected-"+strings.TrimSuffix(filepath.Base(file), ".yaml"), out)
	t.Run("nothing else is changed", func(t *testing.T) { onlyAdded(t, before, after) })
	t.Run("a second time changes nothing", func(t *testing.T) {
		again, err := create(handler, after)
		if err != nil {
			t.Fatal(err)
		}
		if !equality.Semantic.DeepEqual(after, again) {
			t.Fatalf("%s", asYAML(t, again))
		}
	})
}

// Without bearerd and the volumes that it brought, the pod is as it was.
func onlyAdded(t *testing.T, before, after *corev1.Pod) {
	rest := after.DeepCopy()
	rest.Spec.InitContainers = rest.Spec.InitContainers[1:]
	rest.Spec.Volumes = slices.DeleteFunc(rest.Spec.Volumes, func(volume corev1.Volume) bool {
		brought := slices.ContainsFunc(before.Spec.Volumes, func(one corev1.Volume) bool { return one.Name == volume.Name })
		return !brought && strings.HasPrefix(volume.Name, "bearerd-")
	})
	if !equality.Semantic.DeepEqual(before, rest) {
		t.Fatalf("%s", asYAML(t, rest))
	}
}

func asYAML(t *testing.T, pod *corev1.Pod) []byte {
	t.Helper()
	pod = pod.DeepCopy()
	pod.APIVersion, pod.Kind = "v1", "Pod"
	out, err := syaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	// The Go type writes what the server would fill in.
	return []byte(strings.TrimSuffix(string(out), "status: {}\n"))
}

// A later plugin changes the pod, and the policy is asked again, whichever reinvocationPolicy it has.
func TestReinvocation(t *testing.T) {
	for _, policy := range []admissionv1.ReinvocationPolicyType{"Never", "IfNeeded"} {
		t.Run(string(policy), func(t *testing.T) {
			objects, err := decoded(rendered(t, injection))
			if err != nil {
				t.Fatal(err)
			}
			mutatingPolicy(objects).Spec.ReinvocationPolicy = policy
			asked := 0
			handler := chain(t, objects, func(pod *corev1.Pod) {
				asked++
				if asked == 1 {
					mesh := corev1.Container{Name: "mesh", Image: "example.com/mesh:1"}
					pod.Spec.InitContainers = append([]corev1.Container{mesh}, pod.Spec.InitContainers...)
				}
			})
			after, err := create(handler, readPod(t, "pods/plain.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, c := range after.Spec.InitContainers {
				names = append(names, c.Name)
			}
			if asked != 2 || !slices.Equal(names, []string{"mesh", "bearerd"}) {
				t.Fatalf("asked %d times, and then there is %v", asked, names)
			}
		})
	}
}

// An update, of which adding an ephemeral container is one, is none of its business.
func TestUpdatesAreLeftAlone(t *testing.T) {
	objects, err := decoded(rendered(t, injection))
	if err != nil {
		t.Fatal(err)
	}
	before := readPod(t, "pods/plain.yaml")
	after := before.DeepCopy()
	if err := admit(chain(t, objects, nil), admission.Update, after, before, "pods"); err != nil {
		t.Fatal(err)
	}
	if !equality.Semantic.DeepEqual(before, after) {
		t.Fatalf("%s", asYAML(t, after))
	}
}

// The label on a CronJob's pod template changes no CronJob, but the pods that come of it.
func TestTemplatesAreLeftAlone(t *testing.T) {
	objects, err := decoded(rendered(t, injection))
	if err != nil {
		t.Fatal(err)
	}
	handler := chain(t, objects, nil)
	plain := readPod(t, "pods/plain.yaml")
	before := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "app", Namespace: "apps", Labels: plain.Labels}}
	before.SetGroupVersionKind(batchv1.SchemeGroupVersion.WithKind("CronJob"))
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: plain.Labels}, Spec: plain.Spec}
	before.Spec.JobTemplate.Spec.Template = template
	after := before.DeepCopy()
	if err := admit(handler, admission.Create, after, nil, "cronjobs"); err != nil {
		t.Fatal(err)
	}
	if !equality.Semantic.DeepEqual(before, after) {
		t.Fatalf("%v", after)
	}
	made := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
	made.GenerateName = "app-29384756-"
	injected, err := create(handler, made)
	if err != nil {
		t.Fatal(err)
	}
	if len(injected.Spec.InitContainers) != 1 {
		t.Fatalf("%s", asYAML(t, injected))
	}
}

func mutatingPolicy(objects []object) *admissionv1.MutatingAdmissionPolicy {
	for _, o := range objects {
		if policy, is := o.typed.(*admissionv1.MutatingAdmissionPolicy); is {
			return policy
		}
	}
	return nil
}

// A pod that asks for bearerd never starts without it: whatever is missing or wrong in the policy refuses the pod, and says so.
// An image that is missing refuses it too, but not here: the server finds the pod invalid, control-plane/ shows it.
func TestInjectionCanFail(t *testing.T) {
	for _, control := range []struct{ name, from, to, refusal string }{
		{"an unknown field", `terminationMessagePolicy: "FallbackToLogsOnError"`, `terminationMessagePolity: "File"`,
			`unknown field "spec.initContainers[0].terminationMessagePolity"`},
		{"a value of the wrong type", "periodSeconds: 30", `periodSeconds: "30"`, "cannot unmarshal string"},
		{"a type of another place", "Object.spec.initContainers.livenessProbe.exec{", "Object.spec.initContainers.startupProbe.exec{", "type mismatch"},
		{"no list to add to", `path: "/spec/initContainers", value`, `path: "/spec/other", value`, "doc is missing path"},
		{"CEL that does not compile", `variables.image,`, `variables.picture,`, "undefined field 'picture'"},
		{"a policy that matches nothing", "      - pods\n", "      - secrets\n", "no policy has put one in"},
	} {
		t.Run(control.name, func(t *testing.T) {
			content := string(rendered(t, injection))
			changed := strings.Replace(content, control.from, control.to, 1)
			if changed == content {
				t.Fatal("it changes nothing")
			}
			objects, err := decoded([]byte(changed))
			if err != nil {
				t.Fatal(err)
			}
			_, err = create(chain(t, objects, nil), readPod(t, "pods/plain.yaml"))
			if err == nil || !strings.Contains(err.Error(), control.refusal) {
				t.Fatalf("it should be refused with %q, but: %v", control.refusal, err)
			}
		})
	}
}

// The expressions against the types of a Pod, as the server does it for validating policies; what it says would be a warning in
// their status. The patch itself has no such check: its values are decoded strictly, above.
func TestExpressionsHaveTheRightTypes(t *testing.T) {
	checker := validating.TypeChecker{
		SchemaResolver: &resolver.ClientDiscoveryResolver{Discovery: discoverer{}},
		RestMapper:     restMapper(),
	}
	objects, err := decoded(rendered(t, injection))
	if err != nil {
		t.Fatal(err)
	}
	var policies []*admissionv1.ValidatingAdmissionPolicy
	for _, o := range objects {
		if policy, is := o.typed.(*admissionv1.ValidatingAdmissionPolicy); is {
			policies = append(policies, policy)
		}
	}
	// The variables and conditions of the mutating one, as validations: there, any type goes.
	mutating := mutatingPolicy(objects)
	same := &admissionv1.ValidatingAdmissionPolicy{Spec: admissionv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: mutating.Spec.MatchConstraints,
		Variables:        mutating.Spec.Variables,
	}}
	for _, condition := range mutating.Spec.MatchConditions {
		same.Spec.Validations = append(same.Spec.Validations, admissionv1.Validation{Expression: condition.Expression})
	}
	for _, variable := range mutating.Spec.Variables {
		same.Spec.Validations = append(same.Spec.Validations, admissionv1.Validation{Expression: "variables." + variable.Name})
	}
	for _, policy := range append(policies, same) {
		for _, warning := range checker.Check(policy) {
			t.Errorf("%s: %s: %s", policy.Name, warning.FieldRef, warning.Warning)
		}
	}
	same.Spec.Validations[0].Expression = "object.spec.hostsNetwork"
	if len(checker.Check(same)) == 0 {
		t.Error("a field that a Pod has not is nothing to it")
	}
}
