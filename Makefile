# Two commands: `make demo` and `make test`. Each sets up .venv on its first call.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TWO_AT_A_TIME := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test test-quick lint lab figures clean

help:
	@echo "make demo        all six notebooks on the embedded sample, the report, the model"
	@echo "make test        lint and all tests; make test-quick without training and notebooks"
	@echo "make lint        ruff, the direction of imports, types"
	@echo "make lab         JupyterLab in notebooks/"
	@echo "make figures     the demo, and its pictures into the README"
	@echo "make clean       remove .venv and caches; runs in outputs/ stay"

setup: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	# pip compiles all modules: where PYTHONDONTWRITEBYTECODE is set, imports would not keep them,
	# and each notebook would compile torch and transformers again for half a minute
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	$(BIN)/python -m ipykernel install --sys-prefix --name python3 --display-name "Python 3 (russian-sentiment)"
	# the status makes git's index current: in a fresh clone each later one would filter all notebooks
	if git rev-parse --git-dir >/dev/null 2>&1; then git status >/dev/null; $(BIN)/nbstripout --install; fi
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m lib run params/demo.yaml
	# of its 192 test texts two labels are 0.01
	$(BIN)/python -m lib export outputs/demo --max-loss 0.03
	$(BIN)/python -m lib predict outputs/demo --text "Спасибо большое, я очень доволен" \
		--text "Магазин открыт с девяти до шести" --text "Ужасно, всё сломалось, верните деньги"

test: lint
	$(BIN)/python -m pytest $(TWO_AT_A_TIME)

test-quick: $(STAMP)
	$(BIN)/python -m pytest $(TWO_AT_A_TIME) -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

lab: $(STAMP)
	$(BIN)/jupyter lab --notebook-dir=notebooks

figures: demo
	cp outputs/demo/04_cluster_purity/figures/umap.png notebooks/figures/
	$(BIN)/python tests/browser.py outputs/demo/report/index.html notebooks/figures/report.png

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
