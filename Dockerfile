# Three images of the same code: `cpu` (the default) for every process, `gpu` for workers with an NVIDIA card, `serve` for
# one model as a server of its own (docs/containers.md).
# The CUDA build of XGBoost brings what it needs except the driver, which the NVIDIA container runtime mounts.
FROM python:3.11.14-slim-bookworm AS python
ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# Wheels only: nothing is compiled, so no compiler is ever installed. pip itself stays out of /opt/venv.
FROM python AS packages-cpu
COPY requirements.txt /tmp/
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --only-binary :all: --require-hashes -r /tmp/requirements.txt

FROM python AS packages-gpu
COPY requirements-gpu.txt /tmp/
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --only-binary :all: --require-hashes -r /tmp/requirements-gpu.txt

FROM python AS runtime
RUN pip uninstall --yes --root-user-action ignore setuptools wheel pip \
    && groupadd --gid 10001 app \
    && useradd --uid 10001 --gid app --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app
# PYTHONPATH: the scripts in deploy/ import from the application too.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    MODEL_STORE=/models \
    RUN_DIR=/tmp/run \
    OMP_NUM_THREADS=1
WORKDIR /app
COPY . .
# A new volume takes over the owner of the folder that it covers.
RUN rm requirements.txt requirements-gpu.txt && python -m compileall -q . && mkdir /data && chown 10001:10001 /data
USER 10001:10001

FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-gpu /opt/venv /opt/venv

FROM runtime AS serve
COPY --from=packages-cpu /opt/venv /opt/venv
EXPOSE 8080
ENTRYPOINT ["python", "-m", "workers.serve", "--host", "0.0.0.0"]

FROM runtime AS cpu
COPY --from=packages-cpu /opt/venv /opt/venv
