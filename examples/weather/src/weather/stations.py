"""The stations, and the hourly readings that each of them would have taken."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pandas as pd

FIRST_YEAR = 1980


def stations() -> pd.DataFrame:
    """Return the stations with their climate, indexed by name."""
    with files("weather").joinpath("stations.csv").open() as lines:
        return pd.read_csv(lines, index_col="station")


def readings(climate: pd.Series, *, number: int, year: int) -> pd.Series:
    """Return a station's temperature in degrees Celsius for every hour of a year.

    *number* and *year* seed the weather, so that everybody draws the same.
    """
    hours = pd.date_range(f"{year}-01-01", f"{year + 1}-01-01", freq="h", inclusive="left")
    season = -np.cos(2 * np.pi * (hours.dayofyear.to_numpy() - 20) / 365.25)
    day = -np.cos(2 * np.pi * (hours.hour.to_numpy() - 3) / 24)
    fronts = np.random.default_rng([number, year]).normal(size=len(hours) // 72 + 2)
    weather = np.interp(np.arange(len(hours)) / 72, np.arange(len(fronts)), fronts)
    celsius = (
        climate["mean_c"]
        + climate["seasonal_c"] * season
        + climate["daily_c"] * day
        + climate["noise_c"] * weather
        + climate["warming_c_per_decade"] * (year - FIRST_YEAR) / 10
    )
    return pd.Series(celsius, index=hours, name="celsius")
