from distributed import Client, LocalCluster


def main() -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        assert client.submit(sum, range(10)).result() == 45
        client.get_versions(check=True)


if __name__ == "__main__":
    main()
