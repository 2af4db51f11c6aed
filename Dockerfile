FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# Dependencies alone first: this layer stays until they change.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['monitor'], sep='\n')" > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt

COPY README.md LICENSE ./
COPY tasks_bridge tasks_bridge
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --constraint constraints.txt build hatchling \
    && /opt/build/bin/python -m build --no-isolation --wheel --outdir /tmp/dist . \
    && pip install --no-deps /tmp/dist/*.whl


FROM python:3.13-slim
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --system --no-create-home --uid 10001 bridge
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY worker worker
USER bridge
CMD ["celery", "-A", "worker.app", "worker", "--loglevel=INFO", "-E"]
