"""Holds rendered manifests to the JSON schemas of every Kubernetes version, strictly.

    validate.py FOLDER      prints a line for each check: ok or FAIL, a tab, what it is, a tab, what is wrong

Each object has to fit every version from the first that has its kind in that apiVersion to the newest; pods with a native
sidecar, from 1.28 on. A kind that no version has fails, but for those of foreign.txt.
"""

import copy
import functools
import pathlib
import sys

import yaml
from kubernetes_validate import utils

# It reads the definitions of a version, megabytes of JSON, for every object otherwise.
utils.schema_contents = functools.lru_cache(maxsize=None)(utils.schema_contents)

VERSIONS = sorted({utils.major_minor(version) for version in utils.all_versions()}, key=lambda it: int(it.split(".")[1]))
NEWEST = "1.37"
FOREIGN = set(pathlib.Path(__file__).with_name("foreign.txt").read_text().splitlines())


# Where a published schema is stricter than its API server was, and why that is no fault of the manifest.
KNOWN = {
    # The Go type lacked an omitempty, so the schema called it required; the server never did (kubernetes#120204).
    ("1.28", "'onPodConditions' is a required property"),
}


def minor(version):
    return int(version.split(".")[1])


def has_native_sidecar(node):
    """Whether an init container restarts always, however deep the pod is in the object."""
    if isinstance(node, list):
        return any(has_native_sidecar(item) for item in node)
    if not isinstance(node, dict):
        return False
    containers = node.get("initContainers") or []
    return any("restartPolicy" in one for one in containers) or any(has_native_sidecar(value) for value in node.values())


def problems(thing):
    """What is wrong with an object, and the versions that it was held to."""
    kind = f"{thing['apiVersion']} {thing['kind']}"
    if kind in FOREIGN:
        return [], []
    found, known, native = [], [], has_native_sidecar(thing)
    for version in VERSIONS:
        try:
            if native and minor(version) < 28:
                continue
            utils.validate(thing, version, strict=True)
            known.append(version)
        except utils.SchemaNotFoundError:
            if known:
                found.append(f"{version} has no {kind} any more")
        except utils.ValidationError as error:
            known.append(version)
            if (version, error.message) in KNOWN:
                continue
            found.append(f"{version}: {'.'.join(map(str, error.path))}: {error.message[:400]}")
    if not known:
        found.append(f"no version has {kind}")
    return found, known


def line(what, wrong):
    print("ok" if not wrong else "FAIL", what, " · ".join(wrong).replace("\n", " "), sep="\t", flush=True)


def controls(pod):
    """A pod that fits, and then what has to be found in it."""
    line("schemas: a good pod fits", problems(pod)[0])

    def broken(what, change):
        thing = copy.deepcopy(pod)
        change(thing)
        line(f"schemas: {what} is found", [] if problems(thing)[0] else ["nothing is wrong with it"])

    broken("an unknown field", lambda it: it["spec"]["containers"][0].update(imge="x"))
    broken("a wrong type", lambda it: it["spec"]["containers"][0].update(args="run"))
    broken("a missing field", lambda it: it["spec"]["containers"][0].pop("name"))
    broken("an unknown kind", lambda it: it.update(kind="Pot"))
    broken("a foreign kind in another version", lambda it: it.update(apiVersion="external-secrets.io/v9", kind="ExternalSecret"))
    broken("an apiVersion that went away", lambda it: it.update(apiVersion="autoscaling/v2beta2",
           kind="HorizontalPodAutoscaler", spec={"maxReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "a"}}))


def main(folder):
    line(f"schemas: they reach to {NEWEST}", [] if NEWEST in VERSIONS else [f"only {VERSIONS}"])
    controls({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "a", "image": "a"}],
                 "initContainers": [{"name": "b", "image": "b", "restartPolicy": "Always"}]},
    })
    files = sorted(pathlib.Path(folder).glob("*.yaml"))
    line("schemas: there is something to hold to them", [] if files else [f"nothing in {folder}"])
    for file in files:
        things = [thing for thing in yaml.safe_load_all(file.read_text()) if thing]
        wrong, versions = [], set()
        for thing in things:
            found, known = problems(thing)
            wrong += [f"{thing['kind']}/{thing['metadata'].get('name', '')}: {one}" for one in found]
            versions.update(known)
        span = f"{min(versions, key=minor)} to {max(versions, key=minor)}" if versions else "no version"
        line(f"{file.stem}: {len(things)} objects fit the schemas ({span})", wrong)


main(sys.argv[1])
