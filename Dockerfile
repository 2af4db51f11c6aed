FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/venv
COPY constraints.txt ./
RUN /opt/build/bin/pip install --constraint constraints.txt build hatchling

# Dependencies alone first: this layer stays until they change.
COPY pyproject.toml ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['monitor'], *project['optional-dependencies']['metrics'], sep='\n')" > requirements.txt \
    && /opt/build/bin/pip --python /opt/venv/bin/python install --constraint constraints.txt --requirement requirements.txt

COPY README.md LICENSE ./
COPY tasks_bridge tasks_bridge
RUN /opt/build/bin/python -m build --no-isolation --wheel --outdir /tmp/dist . \
    && /opt/build/bin/pip --python /opt/venv/bin/python install --no-deps /tmp/dist/*.whl


FROM python:3.13-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
RUN groupadd --system --gid 10001 bridge && useradd --system --no-create-home --uid 10001 --gid 10001 bridge
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY worker worker
USER 10001:10001
CMD ["celery", "-A", "worker.app", "worker", "--loglevel=INFO", "-E"]
