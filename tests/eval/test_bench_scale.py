"""Machines, hours and storage are computed as they are said to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipseg_ws.eval.bench.scale import Assumed, hours, main, measured_row, table
from clipseg_ws.output.shards import Row, write_shard


def test_hours() -> None:
    plain = Assumed(10.0, 0, 0, size=100, start=0, wave=8, busy=1.0)
    assert hours(36_000, 1, plain) == pytest.approx(1.0)
    assert hours(36_000, 4, plain) == pytest.approx(0.25)
    assert hours(100, 50, plain) == pytest.approx(10 / 3600), "a shard is never divided"
    assert hours(800, 3, plain) == pytest.approx(30 / 3600), "a wave of eight shards takes three rounds"
    assert hours(1700, 8, Assumed(10.0, 0, 0, 100, start=5, wave=8, busy=0.5)) == pytest.approx((60 + 15) / 3600)


def test_table_and_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow", reason="the extra 'shards' is not installed")
    write_shard(str(tmp_path), 0, [Row(f"{n}", "a", "error") for n in range(10)], {"names": []})
    size, rows = measured_row(str(tmp_path))
    assert rows == 10 and size * 10 == pytest.approx((tmp_path / "shard-000000.parquet").stat().st_size)
    found = table(Assumed(100.0, 200e3, 2000.0)).set_index("pictures")
    assert found.loc["1e8", "read, TB"] == 20.0 and found.loc["1e9", "written, TB"] == 2.0
    main(["--rate", "100", "--shards", str(tmp_path)])
    text = capsys.readouterr().out
    assert f"{size:.0f} bytes a row" in text and "| 1e9 | 1000000 |" in text
    with pytest.raises(SystemExit):
        main(["--rate", "0"])
