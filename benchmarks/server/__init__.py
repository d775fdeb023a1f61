"""The model server against its peers: same model, same bodies, same core, one run.

`peers` says who takes part and how each is installed and started; `processes` starts them on one
core and reads what they cost; `payloads` makes models and bodies; `cases` is what is measured;
`run` does it and `report` writes it down. `served` holds what runs inside the peers' environments.
"""
