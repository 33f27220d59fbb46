# Two images of one product. server: pages, API, migrations; no torch.
# worker: the training stack; `--build-arg EXTRA=cpu` for a machine without a card.

# hadolint global ignore=DL3008,DL3013
# (system packages follow the base image's security updates; Python's are pinned by .constraints.txt)

FROM node:24-slim AS assets
WORKDIR /web
COPY web/package.json web/package-lock.json web/.npmrc ./
RUN npm ci --ignore-scripts --no-audit --no-fund

FROM python:3.13-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    TUNEBOX_DATA=/data TUNEBOX_HOST=0.0.0.0
RUN useradd --system --uid 10001 --create-home tunebox \
 && install -d -o tunebox -g tunebox -m 0750 /data
WORKDIR /srv/tunebox

FROM base AS server
COPY pyproject.toml .constraints.txt README.md LICENSE ./
COPY app app
COPY migrations migrations
COPY web web
COPY worker worker
COPY --from=assets /web/node_modules web/node_modules
RUN python web/vendor.py && rm -rf web/node_modules \
 && pip install -c .constraints.txt -e .
USER 10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
CMD ["python", "-m", "uvicorn", "app.main:app", "--host", "0.0.0.0", "--port", "8000", "--no-access-log"]

FROM base AS worker
ARG EXTRA=gpu
# Unsloth's kernels are compiled by Triton when a run starts, which needs a C compiler.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml .constraints.txt README.md LICENSE ./
COPY app app
COPY migrations migrations
COPY worker worker
RUN pip install 'torch==2.13.*' && pip install -c .constraints.txt -e ".[${EXTRA}]"
USER 10001
VOLUME /data
# A run saves its checkpoint on SIGTERM before the container ends.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
  CMD ["python", "-c", "import os, redis; redis.Redis.from_url(os.environ['REDIS_URL']).ping()"]
CMD ["tunebox", "worker"]
