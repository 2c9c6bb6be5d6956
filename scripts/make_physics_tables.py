"""Regenerate `fluorosam_cli/render/physics.npz` with SpekPy and xraylib.

    pip install '.[spectra]' && python scripts/make_physics_tables.py

Contents, all float32 rounded to six significant digits so that the last bits of a library build do not show:

- `spectrum_kvp` (111,), `spectrum_energy_kev` (145,), `spectrum` (111, 145): photons per cm2, mAs and 1 keV bin at 1 m
  from a tungsten anode of 12 degrees, unfiltered; bin centres. SpekPy (Poludniowski et al., Med Phys 48:3630, 2021).
- `material` (names), `density_g_cm3`, `attenuation_energy_kev` (N,), `mass_attenuation_cm2_g` (material, N): total
  mass attenuation with coherent scattering. xraylib (Schoonjans et al., Spectrochim Acta B 66:776, 2011). The energies
  are 5, 6, ... 150 keV and a pair 1 eV around each absorption edge.
- `air_mass_energy_absorption_cm2_g` (N,): what turns fluence into air kerma. NIST's table (Hubbell and Seltzer,
  1995) as SpekPy interpolates it; xraylib's own is a third too low at 20 keV.
- `heel_kvp` (4,), `heel_angle_deg` (23,), `heel` (4, 23): air kerma in the plane of the anode's tilt at this angle from
  the central ray, over that at the same angle across the tilt, where there is no heel; negative towards the anode;
  behind 2.5 mm of aluminium. SpekPy.
"""

import sys
from pathlib import Path

import numpy as np

TABLE = Path(__file__).parents[1] / "fluorosam_cli" / "render" / "physics.npz"
ANODE_ANGLE_DEG = 12.0
KVP = np.arange(40, 151)
BIN_CENTRES_KEV = np.arange(5.5, 150.0)
EDGE_GAP_KEV = 1e-3
HEEL_KVP = (50.0, 80.0, 110.0, 150.0)
HEEL_ANGLE_DEG = np.arange(-11.0, 12.0)

# Mass fractions. Tissues: ICRU Report 44 as in NIST's "X-Ray Mass Attenuation Coefficients", table 2 (lung, adipose,
# soft tissue, muscle, blood, cortical bone, air). Alloys: ASTM F138 (316L), F75 (CoCrMo) and F2063 (nitinol).
COMPOSITIONS: dict[str, tuple[float, dict[str, float]]] = {
    "air": (1.205e-3, {"C": 0.000124, "N": 0.755268, "O": 0.231781, "Ar": 0.012827}),
    "water": (1.0, {"H": 0.111898, "O": 0.888102}),
    "lung": (
        1.05,
        {"H": 0.103, "C": 0.105, "N": 0.031, "O": 0.749, "Na": 0.002, "P": 0.002, "S": 0.003, "Cl": 0.003, "K": 0.002},
    ),
    "adipose": (0.95, {"H": 0.114, "C": 0.598, "N": 0.007, "O": 0.278, "Na": 0.001, "S": 0.001, "Cl": 0.001}),
    "soft_tissue": (
        1.06,
        {"H": 0.102, "C": 0.143, "N": 0.034, "O": 0.708, "Na": 0.002, "P": 0.003, "S": 0.003, "Cl": 0.002, "K": 0.003},
    ),
    "muscle": (
        1.05,
        {"H": 0.102, "C": 0.143, "N": 0.034, "O": 0.710, "Na": 0.001, "P": 0.002, "S": 0.003, "Cl": 0.001, "K": 0.004},
    ),
    "blood": (
        1.06,
        {
            "H": 0.102,
            "C": 0.110,
            "N": 0.033,
            "O": 0.745,
            "Na": 0.001,
            "P": 0.001,
            "S": 0.002,
            "Cl": 0.003,
            "K": 0.002,
            "Fe": 0.001,
        },
    ),
    "bone": (
        1.92,
        {"H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103, "S": 0.003, "Ca": 0.225},
    ),
    "aluminium": (2.699, {"Al": 1.0}),
    "copper": (8.96, {"Cu": 1.0}),
    "titanium": (4.54, {"Ti": 1.0}),
    "stainless_steel": (
        8.0,
        {"Fe": 0.6545, "Cr": 0.18, "Ni": 0.14, "Mo": 0.025},
    ),
    "cobalt_chrome": (8.3, {"Co": 0.66, "Cr": 0.28, "Mo": 0.06}),
    "nitinol": (6.45, {"Ni": 0.56, "Ti": 0.44}),
    "gold": (19.32, {"Au": 1.0}),
    "platinum": (21.45, {"Pt": 1.0}),
    "tungsten": (19.3, {"W": 1.0}),
    "lead": (11.35, {"Pb": 1.0}),
    "iodine": (4.93, {"I": 1.0}),
    "barium": (3.5, {"Ba": 1.0}),
    "barium_sulfate": (4.5, {"Ba": 0.588420, "S": 0.137390, "O": 0.274190}),
    "peek": (1.32, {"C": 0.791604, "H": 0.041955, "O": 0.166441}),
    "polyethylene": (0.94, {"H": 0.143716, "C": 0.856284}),
    "pmma": (1.19, {"H": 0.080541, "C": 0.599846, "O": 0.319613}),
    "caesium_iodide": (4.51, {"Cs": 0.511549, "I": 0.488451}),
}


def spectrum(kvp: float) -> np.ndarray:
    """Photons per cm2 and mAs in each 1 keV bin at 1 m from the unfiltered source, shape (145,)."""
    import spekpy

    energy, fluence = spekpy.Spek(kvp=kvp, th=ANODE_ANGLE_DEG, dk=1.0, mas=1.0, z=100.0).get_spectrum(edges=False)
    found = dict(zip(np.round(energy, 3).tolist(), fluence.tolist(), strict=True))
    return np.array([found.get(centre, 0.0) for centre in BIN_CENTRES_KEV.tolist()])


def attenuation_energies() -> np.ndarray:
    """5, 6, ... 150 keV and both sides of every absorption edge of every element in the compositions."""
    import xraylib

    edges: set[float] = set()
    for symbol in {symbol for _, fractions in COMPOSITIONS.values() for symbol in fractions}:
        for shell in (xraylib.K_SHELL, xraylib.L1_SHELL, xraylib.L2_SHELL, xraylib.L3_SHELL):
            try:
                edge = xraylib.EdgeEnergy(xraylib.SymbolToAtomicNumber(symbol), shell)
            except ValueError:
                continue
            if BIN_CENTRES_KEV[0] - 0.5 < edge < BIN_CENTRES_KEV[-1] + 0.5:
                edges.add(edge)
    pairs = [edge + side * EDGE_GAP_KEV for edge in edges for side in (-1, 1)]
    return np.unique(np.concatenate([np.arange(5.0, 151.0), pairs]))


def mass_attenuation(fractions: dict[str, float], energy_kev: np.ndarray) -> np.ndarray:
    """Total mass attenuation in cm2/g of a mixture by mass fractions (normalised to 1)."""
    import xraylib

    total = np.zeros(len(energy_kev))
    for symbol, weight in fractions.items():
        number = xraylib.SymbolToAtomicNumber(symbol)
        total += weight * np.array([xraylib.CS_Total(number, energy) for energy in energy_kev.tolist()])
    return total / sum(fractions.values())


def air_mass_energy_absorption(energy_kev: np.ndarray) -> np.ndarray:
    """Mass energy-absorption coefficient of dry air in cm2/g."""
    from spekpy.SpekTools import load_mu_data

    _, air, _ = load_mu_data("nist")
    return air.get_muen_over_rho_air(energy_kev)


def heel(kvp: float, angle_deg: float) -> float:
    """Air kerma towards (negative angles) or away from the anode, relative to the same angle beside it."""
    import spekpy

    offset_cm = 100 * np.tan(np.radians(angle_deg))

    def kerma(axis: str) -> float:
        tube = spekpy.Spek(kvp=kvp, th=ANODE_ANGLE_DEG, dk=1.0, z=100.0, **{axis: offset_cm})
        return tube.filter("Al", 2.5).get_kerma()

    return kerma("x") / kerma("y")


def rounded(values: np.ndarray) -> np.ndarray:
    """Six significant digits, float32."""
    return np.array([float(f"{value:.5e}") for value in np.ravel(values)], dtype=np.float32).reshape(np.shape(values))


def main(path: Path = TABLE) -> None:
    energy = attenuation_energies()
    tables = {
        "spectrum_kvp": KVP.astype(np.float32),
        "spectrum_energy_kev": BIN_CENTRES_KEV.astype(np.float32),
        "spectrum": rounded(np.stack([spectrum(float(kvp)) for kvp in KVP])),
        "material": np.array(list(COMPOSITIONS)),
        "density_g_cm3": rounded(np.array([density for density, _ in COMPOSITIONS.values()])),
        "attenuation_energy_kev": energy.astype(np.float64).round(6),
        "mass_attenuation_cm2_g": rounded(
            np.stack([mass_attenuation(fractions, energy) for _, fractions in COMPOSITIONS.values()])
        ),
        "air_mass_energy_absorption_cm2_g": rounded(air_mass_energy_absorption(energy)),
        "heel_kvp": np.array(HEEL_KVP, dtype=np.float32),
        "heel_angle_deg": HEEL_ANGLE_DEG.astype(np.float32),
        "heel": rounded(np.array([[heel(kvp, angle) for angle in HEEL_ANGLE_DEG.tolist()] for kvp in HEEL_KVP])),
    }
    np.savez(path, **tables)  # not compressed: the bytes must not depend on the zlib build
    sys.stdout.write(f"{path} ({path.stat().st_size} bytes)\n")


if __name__ == "__main__":
    main()
