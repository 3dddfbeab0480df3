from kd_bench.cli import main

raise SystemExit(main())
