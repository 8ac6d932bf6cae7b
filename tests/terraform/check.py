"""Checks a Terraform module without the provider, which only a registry of its own has: every attribute and block of every
resource must be one that the provider has, nothing that it demands may be missing, and every reference must lead somewhere.

What the provider has is read from the type declarations of @cdktf/provider-aws, which are generated from its schema.

usage: check.py PROVIDER.tgz MODULE
"""

import pathlib
import re
import sys
import tarfile

import hcl2

# What Terraform itself knows in every resource.
META = {"count", "for_each", "depends_on", "lifecycle", "provider", "provisioner", "connection"}


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def bare(name):
    return name.strip('"')


def interfaces(archive, kind, resource):
    """Attributes of the resource and of its blocks: by interface, name -> (is demanded, type)."""
    folder = "data-" + resource if kind == "data" else resource.removeprefix("aws_")
    folder = folder.replace("_", "-")
    text = archive.extractfile(f"package/lib/{folder}/index.d.ts").read().decode()
    found = {}
    for name, body in re.findall(r"^export interface (\w+)[^{]*\{(.*?)^\}", text, re.S | re.M):
        properties = re.findall(r"readonly (\w+)(\??): ([^;]+);", body)
        found[name] = {snake(key): (optional == "", type) for key, optional, type in properties}
    root = next(name for name in found if name.endswith("Config"))
    return found, root


def check_block(where, block, found, name, problems):
    known = found[name]
    given = {bare(key) for key in block if not key.startswith("__")} - META
    problems += [f"{where}: {key} is nothing that the provider knows" for key in sorted(given - set(known))]
    demanded = {key for key, (is_demanded, _) in known.items() if is_demanded}
    problems += [f"{where}: {key} is missing" for key in sorted(demanded - given)]
    for key, value in block.items():
        types = re.findall(r"\w+", known.get(bare(key), (False, ""))[1])
        inner = next((type for type in types if type in found), None)
        for nested in value if isinstance(value, list) and bare(key) not in META else []:
            if isinstance(nested, dict) and nested.get("__is_block__"):
                if inner is None:
                    problems.append(f"{where}: {key} is no block")
                else:
                    check_block(f"{where}.{key}", nested, found, inner, problems)


def references(tree):
    """What expressions speak of."""
    if isinstance(tree, dict):
        return set().union(*(references(value) for key, value in tree.items() if key != "__comments__"))
    if isinstance(tree, list):
        return set().union(*map(references, tree))
    return set(re.findall(r"\b(?:var|local)\.\w+|(?<![\w.])(?:data\.)?aws_\w+\.\w+", str(tree)))


def main():
    provider, module = sys.argv[1:]
    problems, declared, used = [], set(), set()
    with tarfile.open(provider) as archive:
        for file in sorted(pathlib.Path(module).glob("*.tf")):
            tree = hcl2.loads(file.read_text())
            used |= references(tree)
            for kind in ("resource", "data"):
                for entry in tree.get(kind, []):
                    for resource, named in entry.items():
                        found, root = interfaces(archive, kind, bare(resource))
                        for name, block in named.items():
                            address = f"{'data.' if kind == 'data' else ''}{bare(resource)}.{bare(name)}"
                            declared.add(address)
                            check_block(f"{file.name}: {address}", block, found, root, problems)
            declared |= {f"var.{bare(name)}" for entry in tree.get("variable", []) for name in entry}
            declared |= {f"local.{key}" for entry in tree.get("locals", []) for key in entry if not key.startswith("__")}
    problems += [f"{name} is used, but not declared" for name in sorted(used - declared)]
    unused = {name for name in declared - used if name.startswith(("var.", "local.", "data."))}
    problems += [f"{name} is declared, but not used" for name in sorted(unused)]
    for problem in problems:
        print(problem)
    print(f"{len(declared)} declarations checked, {len(problems)} problems")
    return 1 if problems or not declared else 0


if __name__ == "__main__":
    sys.exit(main())
