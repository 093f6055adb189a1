# make reproduce and make test are all that is needed; both set everything up first.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

UNIT = $(addprefix unit-,n-p d-f q-r g-m a-c s-z)
WORKFLOW = $(addprefix workflow-,o-z a-n)
# the folder in results/: as the last configuration file that names it has it
NAME = $(or $(if $(CONFIG),$(shell sed -n 's/^name: *\([^ ]*\).*/\1/p' $(CONFIG) | tail -1)),artists)

.PHONY: setup draw model demo export reproduce smoke test test-all unit $(UNIT) workflow $(WORKFLOW) lint format schema report pdf entry compare teacher record restore share provenance plan assets-check rehearse clean

# By the environment, to which make exports them, so that no quote in a prompt reaches the shell.
draw: .venv/ready  ## one picture: make draw PROMPT="a tiger on a red background" [RUN=seen-rc-pool] [SEED=1]
	@python -m randcond.models.draw --prompt="$$PROMPT" $(if $(CONFIG),--configfile $(CONFIG)) \
		--run="$$RUN" --seed="$$SEED" --steps="$$STEPS" --guidance-scale="$$GUIDANCE"

model: .venv/ready  ## a student to hand on, with a model card: make model RUN=seen-rc-pool [SEED=0]
	snakemake --cores all $(if $(CONFIG),--configfile $(CONFIG)) -- \
		results/$(NAME)/models/$(or $(RUN),$(error say which: make model RUN=...))$(if $(findstring /,$(RUN)),,/$(or $(SEED),0))

demo: .venv-demo/ready  ## a page at 127.0.0.1 on which teacher and students draw; its packages beside .venv
	@.venv-demo/bin/python -m randcond.models.demo $(if $(CONFIG),--configfile $(CONFIG))

export: .venv-export/ready  ## a student's UNet, checked: make export RUN=seen-rc-pool [FORMAT=onnx or openvino]
	@HF_HUB_OFFLINE=1 .venv-export/bin/python -m randcond.models.export $(if $(CONFIG),--configfile $(CONFIG)) \
		--run="$(or $(RUN),$(error say which: make export RUN=...))" --format="$(or $(FORMAT),onnx)"

setup: .venv/ready  ## the environment alone, in .venv

reproduce: .venv/ready  ## everything, from the prompts to results/artists/report/index.html
	snakemake --cores all

smoke: .venv/ready  ## the same in minutes, with nothing learned: results/smoke/report/index.html
	snakemake --cores all --configfile config/smoke.yaml

# two processes: the smoke world from end to end in one; what else there is, by the files' first letters, in the other,
# and in both when the first is done; one thread each, as torch would start one a core in both
TESTS = OMP_NUM_THREADS=1 $(MAKE) --jobs 2 --keep-going $(if $(filter output-sync,$(.FEATURES)),--output-sync) \
	workflow-o-z lint workflow-a-n unit

test: .venv/ready  ## lint and tests, but for the long ones that another test covers
	@$(TESTS) ONLY='-m "not slow"'

test-all: .venv/ready  ## lint and all tests, as CI does
	@$(TESTS)

unit: $(UNIT)

$(UNIT): .venv/ready
	pytest tests/unit/test_[$(@:unit-%=%)]*.py $(ONLY) $(if $(ONLY),|| [ $$? = 5 ])  # 5: it has none of them

workflow: $(WORKFLOW)

$(WORKFLOW): .venv/ready
	pytest tests/workflow/test_[$(@:workflow-%=%)]*.py $(ONLY)

lint: .venv/ready  ## format, style, types and workflow, by tools
	ruff check
	ruff format --check
	snakefmt --check --compact-diff Snakefile workflow/Snakefile workflow/rules
	mypy
	snakemake --lint

format: .venv/ready  ## mend what a tool can mend
	ruff check --fix
	ruff format
	snakefmt Snakefile workflow/Snakefile workflow/rules

schema: .venv/ready  ## config/README.md and the JSON schemas anew, after a change of the settings
	python -m randcond.settings.describe

# of another configuration than the default: CONFIG=config/full.yaml, as Snakemake's --configfile
report: .venv/ready  ## the report; what its scores lack is made first
	snakemake --cores all $(if $(CONFIG),--configfile $(CONFIG)) --until report

pdf: .venv/ready  ## the report as PDF, by an installed Chromium, Chrome or Edge
	snakemake --cores all $(if $(CONFIG),--configfile $(CONFIG)) -- pdf

entry: .venv/ready  ## docs/index.html anew, from the reports that docs/reports.yaml names
	@python -m randcond.report.entry --log results/entry.log

compare: .venv/ready  ## two runs side by side: make compare A=seen-plain B=seen-rc-animals
	@python -m randcond.report.compare results/$(NAME) $(A) $(B) --configfile config/config.yaml $(CONFIG)

teacher: .venv/ready  ## train the shipped teacher and evaluator from nothing, some hours
	snakemake --cores all --configfile $(or $(CONFIG),config/artists-teacher.yaml) -- teacher

# As Snakemake was run: CONFIG=config/smoke.yaml is its --configfile, VALUES='{"seeds": [0, 1]}' its --config
VERSIONS = python -m randcond.versions $(1) $(if $(CONFIG),--configfile $(CONFIG)) $(if $(VALUES),--config '$(VALUES)')

record: .venv/ready  ## what is up to date into dvc.lock and DVC's cache, as after every run of snakemake
	$(call VERSIONS,record)

restore: .venv/ready  ## recorded results out of DVC's cache or remote; nothing is computed
	$(call VERSIONS,restore)

share: .venv/ready  ## push recorded results: make share REMOTE=<folder, ssh://..., s3://...>
	@$(call VERSIONS,share) --remote "$(or $(REMOTE),$(error say where: make share REMOTE=...))"

provenance: .venv/ready  ## what made the numbers of a run: make provenance RUN=seen-rc-animals [REV=<git revision>]
	@$(call VERSIONS,provenance) --run "$(or $(RUN),$(error say of which run: make provenance RUN=...))" $(if $(REV),--rev $(REV))

plan: .venv/ready  ## what the paper's world costs, or CONFIG's: make plan [GPU=a10] GPUS=4 [CONFIG=config/own_sd.yaml]
	@python -m randcond.planning.plan --config config/config.yaml $(or $(CONFIG),config/paper.yaml) $(if $(GPU),--gpu $(GPU)) --gpus $(or $(GPUS),4) --log results/plan.log

assets-check: .venv/ready  ## is every asset of config/assets.yaml still there, and of its size? headers alone
	python -m randcond.assets.check --log results/assets-check.log

rehearse: .venv/ready  ## at true sizes with random weights, on a CPU with 24 GB: make rehearse [FAMILY=sdxl or sd3] [MEMORY=24]
	HF_HUB_OFFLINE=1 python -m randcond.planning.rehearse --family $(or $(FAMILY),sd14) --memory $(or $(MEMORY),24) --log results/rehearse.log

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

# An extra that does not go with the lock (docs/log.md): what differs from .venv, over the packages that lie there
PACKAGES = -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
.venv-%/ready: .venv/ready
	$(PYTHON) -m venv .venv-$*
	$(BIN)/python $(PACKAGES) > "$$(.venv-$*/bin/python $(PACKAGES))/below.pth"
	.venv-$*/bin/python -m pip install --quiet --editable '.[$*]'
	@touch $@

clean:  ## results and environments
	rm -rf .venv .venv-* .snakemake
	find results -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
