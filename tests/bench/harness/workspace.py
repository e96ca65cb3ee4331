"""A cargo workspace of four crates without dependencies, for the builds."""

CRATES = ("alpha", "beta", "gamma", "delta")


def make_workspace(root):
    root.mkdir(parents=True)
    members = ", ".join(f'"{name}"' for name in CRATES)
    (root / "Cargo.toml").write_text(f'[workspace]\nresolver = "2"\nmembers = [{members}]\n')
    for number, name in enumerate(CRATES):
        src = root / name / "src"
        src.mkdir(parents=True)
        below = CRATES[:number]
        needs = "".join(f'{other} = {{ path = "../{other}" }}\n' for other in below)
        (root / name / "Cargo.toml").write_text(
            f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n\n[dependencies]\n{needs}'
        )
        modules = [f"part{i}" for i in range(12)]
        (src / "lib.rs").write_text("".join(f"pub mod {m};\n" for m in modules) + "pub fn version() -> u32 { 1 }\n")
        for i, module in enumerate(modules):
            (src / f"{module}.rs").write_text("".join(function(i, n) for n in range(25)))
    calls = "".join(f'    println!("{{}}", {name}::part0::f0(3) + u64::from({name}::version()));\n' for name in CRATES)
    (root / "delta" / "src" / "main.rs").write_text(f"fn main() {{\n{calls}}}\n")


def function(module, number):
    return (
        f"#[derive(Debug, Clone, Default)]\npub struct S{number} {{ pub a: u64, pub b: Vec<u64>, pub c: String }}\n"
        f"pub fn f{number}(x: u64) -> u64 {{\n"
        f"    let s = S{number} {{ a: x, b: (0..x).map(|i| i * {module + 3}).collect(), c: format!(\"{{x}}\") }};\n"
        f"    s.b.iter().filter(|v| **v % 2 == 0).sum::<u64>() + s.a + s.c.len() as u64\n}}\n"
    )
