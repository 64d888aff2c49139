"""The command ``weather-report``."""

from __future__ import annotations

import argparse
import platform
import time

import dask
import numpy as np
import pandas as pd
from dask.distributed import Client, LocalCluster

from weather.stations import FIRST_YEAR, readings, stations


@dask.delayed
def monthly(station: str, climate: pd.Series, number: int, year: int) -> pd.DataFrame:
    """Return a station's statistics of each month of a year, from its hourly readings."""
    celsius = readings(climate, number=number, year=year)
    months = celsius.groupby(celsius.index.month)
    daily_minimum = celsius.resample("D").min()
    return pd.DataFrame(
        {
            "station": station,
            "year": year,
            "mean": months.mean(),
            "lowest": months.min(),
            "highest": months.max(),
            "frost_days": (daily_minimum < 0).groupby(daily_minimum.index.month).sum(),
            "readings": months.size(),
        }
    ).rename_axis("month")


@dask.delayed
def summary(months: list[pd.DataFrame]) -> pd.DataFrame:
    """Return one row per station: its climate over all years, and its trend."""
    table = pd.concat(months)
    stations_ = table.groupby("station")
    years = stations_["year"].nunique()
    yearly = table.groupby(["station", "year"])["mean"].mean()
    trend = yearly.groupby("station").apply(
        lambda means: np.polyfit(means.index.get_level_values("year"), means, 1)[0] * 10
    )
    return pd.DataFrame(
        {
            "mean": stations_["mean"].mean(),
            "lowest": stations_["lowest"].min(),
            "highest": stations_["highest"].max(),
            "frost days/year": stations_["frost_days"].sum() / years,
            "trend/decade": trend,
            "readings": stations_["readings"].sum(),
        }
    )


def main() -> None:
    """Compute the climate on a local Dask cluster, and print it."""
    parser = argparse.ArgumentParser(
        description="Climate of eight stations, computed from hourly readings by Dask."
    )
    parser.add_argument("--years", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()

    tasks = [
        monthly(station, climate, number, FIRST_YEAR + year)
        for number, (station, climate) in enumerate(stations().iterrows())
        for year in range(arguments.years)
    ]
    with (
        LocalCluster(n_workers=arguments.workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        start = time.perf_counter()
        table = client.compute(summary(tasks)).result()
        seconds = time.perf_counter() - start
        workers = len(client.scheduler_info(n_workers=-1)["workers"])

    decimals = {"mean": 1, "lowest": 1, "highest": 1, "frost days/year": 0, "trend/decade": 2}
    print(table.round(decimals).drop(columns="readings").to_string())
    print(
        f"\n{table['readings'].sum():,} hourly readings, {len(tasks)} tasks, {workers} workers, "
        f"{seconds:.1f} s\n"
        f"Python {platform.python_version()}, dask {dask.__version__}, pandas {pd.__version__},"
        f" {platform.freedesktop_os_release()['PRETTY_NAME']}"
    )


if __name__ == "__main__":
    main()
