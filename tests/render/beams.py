"""What a beam is told by: its mean energy, air kerma and half-value layer, from our own attenuation."""

from fluorosam_cli.render import physics


def mean_energy_kev(spectrum: physics.Spectrum) -> float:
    return float(spectrum.fluence @ spectrum.energy_kev / spectrum.fluence.sum())


def air_kerma_ugy(spectrum: physics.Spectrum) -> float:
    """Air kerma in microgray per mAs at 1 m: energy fluence times the mass energy-absorption coefficient of air."""
    joule_per_kev, cm2_g_to_m2_kg, cm2_to_m2 = 1.602176634e-16, 0.1, 1e-4
    absorption = physics._interpolated(physics._tables()["air_mass_energy_absorption_cm2_g"], spectrum.energy_kev)
    kev_per_cm2 = spectrum.fluence @ (spectrum.energy_kev * absorption)
    return float(kev_per_cm2 * joule_per_kev * cm2_g_to_m2_kg / cm2_to_m2 * 1e6)


def half_value_layer_mm_al(spectrum: physics.Spectrum) -> float:
    """The thickness of aluminium that halves the air kerma (first half-value layer), by bisection to 1e-6 mm."""
    half = air_kerma_ugy(spectrum) / 2
    low, high = 0.0, 100.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        above = air_kerma_ugy(physics.filtered(spectrum, {"aluminium": middle})) > half
        low, high = (middle, high) if above else (low, middle)
    return (low + high) / 2
