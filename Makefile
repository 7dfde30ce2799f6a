# One virtual environment, made when it is missing; `make demo` and `make test` need nothing else.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin

.PHONY: demo test quick lint bench wheel clean

demo: $(VENV)/base
	$(BIN)/python examples/digits/demo.py

test: $(VENV)/full
	$(BIN)/python -m pytest -n 2

quick: $(VENV)/full
	$(BIN)/python -m pytest -n 2 -m "not slow"

lint: $(VENV)/full
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(VENV)/full
	$(BIN)/python benchmarks/conformer.py
	$(BIN)/python benchmarks/digits.py
	$(BIN)/python benchmarks/streaming.py
	$(BIN)/python benchmarks/digits_stream.py
	$(BIN)/python benchmarks/targets.py
	$(BIN)/python benchmarks/compile_time.py
	$(BIN)/python benchmarks/integer_ops.py
	$(BIN)/python benchmarks/text.py

# The command from an installed wheel with nothing but its own needs, away from the source tree.
wheel: $(VENV)/full
	rm -rf $(VENV)/wheel $(VENV)/clean
	$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation -w $(VENV)/wheel .
	$(PYTHON) -m venv $(VENV)/clean
	$(VENV)/clean/bin/pip install -q $(VENV)/wheel/speechc-*.whl
	cd $(VENV) && clean/bin/python -c "import speechc; assert 'clean' in speechc.__file__, speechc.__file__"
	cd $(VENV) && clean/bin/speechc version && clean/bin/speechc passes >/dev/null && clean/bin/speechc ops >/dev/null

$(VENV)/base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip setuptools wheel
	$(BIN)/pip install -q --no-build-isolation -e '.[all]'
	touch $@

# onnx2tf pins its needs exactly and asks for a newer Python than it uses: it goes in without its dependencies.
$(VENV)/full: $(VENV)/base
	$(BIN)/pip install -q --no-build-isolation -e '.[all,test,peers]'
	$(BIN)/pip install -q --no-deps --ignore-requires-python onnx2tf==2.6.9 sne4onnx==2.0.1 sng4onnx==2.0.1 \
		onnxoptimizer==0.4.2 tf-keras==2.21.0
	touch $@

clean:
	rm -rf $(VENV) build dist out *.egg-info
