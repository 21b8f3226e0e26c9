# SPDX-License-Identifier: Apache-2.0
import traceback, sys, unittest, pytest, slicer
def room(n=0):
    try:
        return room(n+1)
    except RecursionError:
        return n
def test_tmp(panel, study_of, whole_study, phantom_study, monkeypatch):
    from ProstateXferLib.images.grid import Grid
    from ProstateXferSlicer import self_test
    from ProstateXferSlicer.sample_data import loadPhantom
    from slicer_host.node_combo_box import qMRMLNodeComboBox as C
    grid = Grid.of(phantom_study.t2w)
    monkeypatch.setattr(self_test, "loadPhantom", lambda **o: loadPhantom(grid=grid, **o))
    old, done = C._update, []
    def upd(self):
        if not done and len(traceback.extract_stack()) > 400:
            done.append(1)
            open("/tmp/stack.txt","w").write("".join(traceback.format_stack()[:260]))
        old(self)
    monkeypatch.setattr(C, "_update", upd)
    study = study_of('prostate','dil')
    for _ in range(5):
        for _ in range(300): slicer.app.processEvents()
        print("ROOM events", room())
    for n, check in enumerate(self_test.CHECKS):
        panel.child.does(study=whole_study if n == 2 else study)
        print("ROOM before", n, room(), flush=True)
        slicer.mrmlScene.Clear()
        print("ROOM cleared", n, room(), slicer.mrmlScene.GetNumberOfNodes(), flush=True)
        try:
            check(unittest.TestCase())
        except Exception as e:
            print("ASSERT", n, repr(e)[:200])
