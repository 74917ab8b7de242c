# The images of the distributed deployment: `api`, without torch, and `worker`, with torch.
#
#   docker build --target api -t intff-api .
#   docker build --target worker -t intff-worker .

ARG PYTHON=3.11.13-slim-bookworm

FROM python:${PYTHON} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/intff
ENV PATH=/opt/intff/bin:$PATH
COPY constraints.txt pyproject.toml README.md ./
RUN pip install -c constraints.txt pip setuptools

# Packages are installed before the project's own files are copied, so that a code change downloads nothing.
FROM packages AS api-packages
RUN pip install -c constraints.txt --no-build-isolation ".[service,s3]"
COPY intff intff
COPY store store
COPY service service
RUN pip install -c constraints.txt --no-build-isolation --no-deps --force-reinstall .

FROM packages AS worker-packages
# Another index for torch: PyTorch's index of CPU builds gives an image without CUDA, a few gigabytes
# smaller. The constraints file sets the version either way.
ARG TORCH_INDEX=""
RUN PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" pip install -c constraints.txt --no-build-isolation ".[worker,s3]"
COPY intff intff
COPY store store
COPY worker worker
RUN pip install -c constraints.txt --no-build-isolation --no-deps --force-reinstall .

FROM python:${PYTHON} AS base
# Volumes mounted here inherit their owner from the image, so these folders must exist and belong to this user.
RUN useradd --system --uid 10001 --home-dir /var/lib/intff --shell /usr/sbin/nologin intff \
    && install --directory --owner=intff --group=intff \
        /var/lib/intff /var/lib/intff/artifacts /var/lib/intff/data
ENV PATH=/opt/intff/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    INTFF_HOME=/var/lib/intff \
    INTFF_LOG_JSON=true
WORKDIR /var/lib/intff
USER intff

FROM base AS api
COPY --from=api-packages /opt/intff /opt/intff
ENV INTFF_HOST=0.0.0.0 INTFF_PORT=8000
EXPOSE 8000
CMD ["uvicorn", "service.app:app", "--http", "service.connections:Connection", "--ws", "none", "--timeout-keep-alive", "65", \
     "--host", "0.0.0.0", "--port", "8000", "--timeout-graceful-shutdown", "10"]

FROM base AS worker
COPY --from=worker-packages /opt/intff /opt/intff
CMD ["celery", "--quiet", "--app", "worker.app", "worker"]
