// A rule that cannot fail counts as none: here each is broken once, by a change to manifests that keep all of them.
package kubernetes

import (
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Manifests that keep every rule.
func goodManifests(t *testing.T) string {
	sidecar, err := os.ReadFile("sidecar.yaml")
	if err != nil {
		t.Fatal(err)
	}
	indented := strings.ReplaceAll(strings.TrimSpace(string(sidecar[strings.Index(string(sidecar), "name:"):])), "\n", "\n            ")
	return strings.Replace(`apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      initContainers:
          - SIDECAR
      containers:
          - name: app
            image: example.com/app:1
            ports: [{name: http, containerPort: 8080}]
            readinessProbe: {httpGet: {path: /, port: http}}
            resources: {requests: {cpu: 10m, memory: 16Mi}}
            securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumes:
          - {name: bearerd-config, configMap: {name: bearerd}}
          - {name: bearerd-secrets, secret: {secretName: bearerd, defaultMode: 0444}}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec:
  selector: {app: app}
  ports: [{port: 80, targetPort: http}]
`, "SIDECAR", indented, 1)
}

func brokenRules(t *testing.T, objects []object) map[string][]string {
	broken := map[string][]string{}
	for _, rule := range objectRules {
		if problems := rule.broken(objects); len(problems) > 0 {
			broken[rule.name] = problems
		}
	}
	for _, rule := range podRules {
		for _, pod := range podsOf(objects) {
			if problems := rule.broken(pod); len(problems) > 0 {
				broken[rule.name] = append(broken[rule.name], problems...)
			}
		}
	}
	return broken
}

func TestRulesCanFail(t *testing.T) {
	good := goodManifests(t)
	objects, err := decoded([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if broken := brokenRules(t, objects); len(broken) > 0 {
		t.Fatalf("the manifests that should keep every rule break %v", broken)
	}

	const restricted = "Pod Security: restricted, from 1.25 to the newest"
	const same = "the sidecar is the one of sidecar.yaml"
	const alone = "nobody but bearerd has bearerd's secrets"
	const fits = "volumes, mounts and ports fit together"
	const host = "no probe or hook names a host"
	const mount = "            volumeMounts: [{name: bearerd-secrets, mountPath: /s}]\n            image: example.com/app:1\n"
	tested := map[string]bool{}
	for _, control := range []struct{ name, rule, from, to string }{
		{"privilege escalation", restricted, "allowPrivilegeEscalation: false, ", ""},
		{"the host's network", restricted, "      securityContext: {runAs", "      hostNetwork: true\n      securityContext: {runAs"},
		{"a sidecar as root", restricted, "runAsUser: 65532", "runAsUser: 0"},
		{"a probe with a host", host, "httpGet: {path: /,", "httpGet: {host: 127.0.0.1, path: /,"},
		{"a probe of a socket with a host", host, "httpGet: {path: /, port: http}", "tcpSocket: {host: 127.0.0.1, port: 80}"},
		{"a hook with a host", host, "            ports:",
			"            lifecycle: {preStop: {httpGet: {host: 127.0.0.1, port: 80}}}\n            ports:"},
		{"a subPath", "no subPath", "mountPath: /etc/bearerd,", "mountPath: /etc/bearerd, subPath: x,"},
		{"an image by tag", "bearerd's image is named by digest", "@sha256:" + strings.Repeat("0", 64), ":1.0"},
		{"an image by half a digest", "bearerd's image is named by digest", strings.Repeat("0", 64), "00"},
		{"a sidecar that is second", "the sidecar is a native one, and first", "          - name: bearerd\n",
			"          - {name: migrate, image: example.com/app:1}\n          - name: bearerd\n"},
		{"an init container as sidecar", "the sidecar is a native one, and first", "restartPolicy: Always", ""},
		{"another probe", same, "failureThreshold: 3600", "failureThreshold: 60"},
		{"liveness by readiness", same, "[/bearerd, health]", "[/bearerd, health, --ready]"},
		{"a writable root", same, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"},
		{"a mount elsewhere", same, "mountPath: /etc/bearerd,", "mountPath: /etc/other,"},
		{"an image of others", same, "ghcr.io/bearerd/bearerd@", "ghcr.io/other/bearerd@"},
		{"a readiness probe", "no readiness probe and no preStop on the sidecar", "restartPolicy: Always",
			"restartPolicy: Always\n            readinessProbe: {exec: {command: [/bearerd, health]}}"},
		{"a preStop hook", "no readiness probe and no preStop on the sidecar", "restartPolicy: Always",
			"restartPolicy: Always\n            lifecycle: {preStop: {sleep: {seconds: 1}}}"},
		{"the secret mounted by the app", alone, "            image: example.com/app:1\n", mount},
		{"the secret in the app's environment", alone, "            ports:",
			"            envFrom: [{secretRef: {name: bearerd}}]\n            ports:"},
		{"a key of the secret in it", alone, "            ports:",
			"            env: [{name: S, valueFrom: {secretKeyRef: {name: bearerd, key: s}}}]\n            ports:"},
		{"the secret by another volume", alone, "      volumes:\n",
			"      volumes:\n          - {name: s, secret: {secretName: bearerd}}\n"},
		{"the app as bearerd's user", "the app is another user than the sidecar, with processes of its own", "runAsUser: 1000", "runAsUser: 65532"},
		{"shared processes", "the app is another user than the sidecar, with processes of its own",
			"      securityContext: {runAs", "      shareProcessNamespace: true\n      securityContext: {runAs"},
		{"a CPU limit", "every container has requests, and bearerd no CPU limit", "limits: {", "limits: {cpu: 1, "},
		{"no requests", "every container has requests, and bearerd no CPU limit", "            resources: {requests: {cpu: 10m, memory: 16Mi}}\n", ""},
		{"a mount without a volume", fits, "          - {name: bearerd-config, configMap: {name: bearerd}}\n", ""},
		{"a volume without a mount", fits, "      volumes:\n", "      volumes:\n          - {name: idle, emptyDir: {}}\n"},
		{"a probe on a port that is none", fits, "port: http}}", "port: https}}"},
		{"a long port name", fits, "{name: http,", "{name: an-endless-name-for-a-port,"},
		{"two containers of one name", fits, "          - name: app\n", "          - {name: app, image: i}\n          - name: app\n"},
		{"a selector of others", "every selector finds its pods", "matchLabels: {app: app}", "matchLabels: {app: other}"},
		{"a Service of others", "every selector finds its pods", "selector: {app: app}", "selector: {app: other}"},
		{"a Service on no port", "every selector finds its pods", "targetPort: http", "targetPort: https"},
		{"an object twice", "no object twice", "---\n", "---\napiVersion: v1\nkind: Service\nmetadata: {name: app}\n" +
			"spec: {selector: {app: app}, ports: [{port: 1}]}\n---\n"},
	} {
		t.Run(control.name, func(t *testing.T) {
			changed := strings.Replace(good, control.from, control.to, 1)
			if control.name == "the secret by another volume" {
				changed = strings.Replace(changed, "            image: example.com/app:1\n",
					strings.Replace(mount, "bearerd-secrets", "s", 1), 1)
			}
			if changed == good {
				t.Fatal("it changes nothing")
			}
			objects, err := decoded([]byte(changed))
			if err != nil {
				t.Fatal(err)
			}
			if brokenRules(t, objects)[control.rule] == nil {
				t.Fatalf("%q finds nothing wrong", control.rule)
			}
			tested[control.rule] = true
		})
	}
	for _, rule := range objectRules {
		if !tested[rule.name] {
			t.Errorf("nothing breaks %q", rule.name)
		}
	}
	for _, rule := range podRules {
		if !tested[rule.name] {
			t.Errorf("nothing breaks %q", rule.name)
		}
	}
}

func TestDecodingCanFail(t *testing.T) {
	for name, change := range map[string][2]string{
		"an unknown field":  {"readinessProbe:", "redinessProbe:"},
		"a repeated field":  {"image: example.com/app:1", "image: example.com/app:1\n            image: example.com/app:2"},
		"a wrong type":      {"containerPort: 8080", "containerPort: http"},
		"an unknown kind":   {"kind: Service", "kind: Servant"},
		"an unknown volume": {"configMap: {name: bearerd}", "configMap: {secretName: bearerd}"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decoded([]byte(strings.Replace(goodManifests(t), change[0], change[1], 1))); err == nil {
				t.Fatal("nothing is wrong with it")
			}
		})
	}
}

// The differences that compareSidecar allows are no more than they should be.
func TestSidecarMayHaveTheHealthPort(t *testing.T) {
	objects, err := decoded([]byte(goodManifests(t)))
	if err != nil {
		t.Fatal(err)
	}
	one := podsOf(objects)[0]
	sidecar := one.sidecar()
	sidecar.Env = []corev1.EnvVar{{Name: "BEARERD_HEALTH", Value: "0.0.0.0:4282"}}
	sidecar.Ports = []corev1.ContainerPort{{Name: "bearerd-health", ContainerPort: 4282}}
	handler := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/livez"}}
	handler.HTTPGet.Port.Type, handler.HTTPGet.Port.StrVal = 1, "bearerd-health"
	sidecar.LivenessProbe.ProbeHandler = handler
	report(t, compareSidecar(one, *sidecar))
	sidecar.StartupProbe.ProbeHandler = handler
	if compareSidecar(one, *sidecar) == nil {
		t.Error("a startup probe that does not wait for a token is nothing to it")
	}
}
