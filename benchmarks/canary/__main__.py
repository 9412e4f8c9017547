"""``python -m benchmarks.canary [--quick] [--seed N]``: see ``sweep``. Worker processes cannot find what lies here."""

from benchmarks.canary.sweep import main

if __name__ == "__main__":
    main()
