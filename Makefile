# Maquette: every command a contributor needs. `make help` lists them.
#
# PYTHON       the Python 3.11 that the environments are made from
# TORCH_INDEX  optional address of a package index that holds PyTorch's CPU builds (see docs/CONTRIBUTING.md)

PYTHON ?= $(firstword $(shell command -v python3.11 python3))
TORCH_INDEX ?=
LOCK := $(if $(filter Darwin,$(shell uname -s)),macos-arm64-py311-mps,linux-x64-py311-cpu)
LOCK_ELSE := $(if $(filter Darwin,$(shell uname -s)),$(LOCK),linux-x64-py311-cuda)
BPY := 4.2 4.5 5.0
BPY_READY := $(BPY:%=.venv-bpy-%/.ready)
PIP := -m pip --disable-pip-version-check install --quiet --only-binary :all: --require-hashes
BUILDER = $(firstword $(wildcard .venv-bpy-4.5/lib/python3.11/site-packages/bpy/*/scripts/addons_core/bl_pkg/cli/blender_ext.py))
RUN := .venv/bin/python
# As the engine runs (core/jobs/tuning.py): threads that spin while they wait take the cores from whatever else runs.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help setup setup-bpy test test-all demo bench-photos bench-poses build check wheels clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: .venv/.ready  ## the engine's environment in .venv (CPU torch), for `.venv/bin/python -m maquette`

setup-bpy: $(BPY_READY)  ## one environment per Blender version (bpy 4.2, 4.5, 5.0), for the tests of operators

test: setup setup-bpy  ## the short tests, without Blender and in every bpy version
	for version in $(BPY); do \
	  .venv-bpy-$$version/bin/python -m pytest -q tests/blender || exit 1; done
	$(RUN) -m pytest -q

test-all: setup setup-bpy  ## every test, the slow ones too
	for version in $(BPY); do \
	  .venv-bpy-$$version/bin/python -m pytest -q -m "not real_blender" tests/blender || exit 1; done
	$(RUN) -m pytest -q -m ""

demo: setup .venv-bpy-4.5/.ready  ## the shipped photos -> demo/: .blend, .glb, report, photos beside renders
	MAQUETTE_BLENDER=.venv-bpy-4.5/bin/python $(RUN) -m maquette mesh tests/data/example_photos/*.jpg \
	  --out demo/result --blend demo/demo.blend --glb demo/demo.glb --report demo/report.json --preview demo/preview.png

bench-photos: setup  ## the table of measures for photos to mesh (an hour; needs the data beside the checkout)
	$(RUN) -m tests.bench_photos

bench-poses: setup .venv-bpy-4.5/.ready  ## the table of measures for cameras (renders its sets first; needs the data beside the checkout)
	$(RUN) -m tests.bench_poses

build: .venv-bpy-4.5/.ready  ## dist/maquette-VERSION.zip, made and checked by Blender's own extension builder
	mkdir -p dist
	$(PYTHON) $(BUILDER) build --source-dir . --output-dir dist
	$(PYTHON) $(BUILDER) validate dist/maquette-*.zip

check: setup  ## ruff, format, types, rules of the house
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy -p maquette.core -p maquette.operators -p maquette.panels
	$(RUN) -m pytest -q tests/test_house.py

wheels: setup  ## fetch the engine's files into wheels/, for a set-up without network
	$(RUN) -m pip download --require-hashes --only-binary :all: -r wheels/$(LOCK).txt --dest wheels

clean:  ## remove what the other commands made, except the environments
	rm -rf build dist demo .mypy_cache .ruff_cache .pytest_cache

# The link gives the package its name whatever the checkout is called; the .pth file puts it on the path.
.venv/.ready: wheels/$(LOCK).txt wheels/dev.txt
	$(PYTHON) -m venv .venv
	$(RUN) $(PIP) -r wheels/$(LOCK).txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) || { \
	  echo "No CPU build of torch at your package index: taking the public build, which brings CUDA libraries."; \
	  $(RUN) $(PIP) -r wheels/$(LOCK_ELSE).txt; }
	$(RUN) $(PIP) -r wheels/dev.txt
	mkdir -p .venv/src
	ln -sfn ../.. .venv/src/maquette
	$(RUN) -c "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'maquette.pth').write_text(str(pathlib.Path('.venv/src').resolve()))"
	touch $@

.venv-bpy-%/.ready: wheels/bpy-%.txt
	$(PYTHON) -m venv .venv-bpy-$*
	.venv-bpy-$*/bin/python $(PIP) -r wheels/bpy-$*.txt
	touch $@
