"""The script behind ``heads.csv``, at a tiny size."""

from __future__ import annotations

import csv

from clipseg_ws.eval.experiments import heads_scenes


def test_training_scenes_and_commands(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(heads_scenes, "command", lambda *words: calls.append([str(w) for w in words]))
    heads_scenes.main(["-o", str(tmp_path), "--scenes", "2", "--seeds", "2", "--weightings", "hard", "none"])
    assert [c[0] for c in calls] == ["pseudo", "train", "train", "train", "train", "eval"]
    with open(tmp_path / "tags.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["4000000.png", "4000001.png"] and all(row["tags"] for row in rows)
    assert all((tmp_path / "images" / row["image"]).exists() for row in rows)
    weightings = [c[c.index("--weighting") + 1] for c in calls if c[0] == "train"]
    assert weightings == ["hard", "none", "hard", "none"]
    assert all(c[c.index("--more-scales") + 1] == "0.667" for c in calls if c[0] == "train")
    evaluated = calls[-1][calls[-1].index("--method") + 1].split(",")
    assert evaluated[0] == "default" and len(evaluated) == 10
    assert [f"{name}+refine=none+affinity=false" for name in evaluated[:5]] == evaluated[5:]  # the heads alone, too
    calls.clear()
    heads_scenes.main(["-o", str(tmp_path), "--scenes", "2", "--seeds", "1", "--scheme", "consistency"])
    schemes = {c[c.index("--scheme") + 1]: c[c.index("-o") + 1] for c in calls if c[0] == "train"}
    assert list(schemes) == ["consistency"] and "_consistency_s0" in schemes["consistency"]
    assert heads_scenes.FIRST_SEED + 1000 < 5_000_000  # neither validation nor held-out scenes
