"""PMML: a tree with categories and probabilities, a regression, files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.integration.runtime_process import (
    everywhere,
    failed_start,
    metadata,
    predictions,
    serving,
)

from kedge.runtimes.versions import installed_version
from kedge.server.errors import ModelLoadFailed

try:
    installed_version("jpmml-evaluator", "pmml")
except ModelLoadFailed:
    pytest.skip("needs JPMML's evaluator", allow_module_level=True)

TREE = """<?xml version="1.0" encoding="UTF-8"?>
<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4">
<Header/>
<DataDictionary>
  <DataField name="width" optype="continuous" dataType="double"/>
  <DataField name="colour" optype="categorical" dataType="string">
    <Value value="red"/><Value value="blue"/>
  </DataField>
  <DataField name="kind" optype="categorical" dataType="string">
    <Value value="rose"/><Value value="iris"/>
  </DataField>
</DataDictionary>
<TreeModel functionName="classification" splitCharacteristic="multiSplit">
  <MiningSchema>
    <MiningField name="width"/><MiningField name="colour"/>
    <MiningField name="kind" usageType="target"/>
  </MiningSchema>
  <Output>
    <OutputField name="P_rose" optype="continuous" dataType="double" feature="probability"
      value="rose"/>
  </Output>
  <Node id="0"><True/>
    <Node id="1" score="rose">
      <CompoundPredicate booleanOperator="and">
        <SimplePredicate field="colour" operator="equal" value="red"/>
        <SimplePredicate field="width" operator="greaterThan" value="1.0"/>
      </CompoundPredicate>
      <ScoreDistribution value="rose" recordCount="9"/>
      <ScoreDistribution value="iris" recordCount="1"/>
    </Node>
    <Node id="2" score="iris"><True/>
      <ScoreDistribution value="rose" recordCount="1"/>
      <ScoreDistribution value="iris" recordCount="3"/>
    </Node>
  </Node>
</TreeModel>
</PMML>
"""


def test_categories_and_probabilities(tmp_path: Path) -> None:
    (tmp_path / "model.pmml").write_text(TREE)
    with serving("pmml", tmp_path, tmp_path / "log") as served:
        assert metadata(served) == (
            {"width": ("FP64", [-1]), "colour": ("BYTES", [-1])},
            {"kind": ("BYTES", [-1]), "P_rose": ("FP64", [-1])},
        )
        # KServe's server zips a row with the fields, in their order.
        assert predictions(served, [[2.0, "red"], [2.0, "blue"]]) == [
            {"kind": "rose", "P_rose": 0.9},
            {"kind": "iris", "P_rose": 0.25},
        ]
        assert predictions(served, [{"colour": "red", "width": 0.5}]) == [
            {"kind": "iris", "P_rose": 0.25}
        ]
        given = {
            "width": np.array([2.0, 0.5]),
            "colour": np.array(["red", "red"], dtype=object),
        }
        answer = everywhere(served, given)
        assert answer["kind"].tolist() == ["rose", "iris"]
        assert answer["P_rose"].tolist() == [0.9, 0.25]
        assert list(everywhere(served, given, ("P_rose",))) == ["P_rose"]
        status, body = served.post("/v1/models/m:predict", {"instances": [[1.0]]})
        assert (status, body["error"]) == (
            400,
            "Each row has 1 values, but model m takes 2 (width, colour).",
        )
        status, body = served.post("/v1/models/m:predict", {"instances": [[1.0, "green"]]})
        assert status == 400
        assert "Model m cannot evaluate a row: " in body["error"]


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    assert "No PMML model in" in failed_start("pmml", tmp_path)
    path = tmp_path / "model.pmml"
    path.write_text(TREE[:300])
    assert "is no well-formed XML" in failed_start("pmml", tmp_path)
    path.write_text("<a><b/></a>")
    assert "no PMML document with a model" in failed_start("pmml", tmp_path)
    path.write_text(TREE.replace('functionName="classification"', 'functionName="magic"'))
    assert "(PMML 4.4, TreeModel) cannot be evaluated" in failed_start("pmml", tmp_path)
