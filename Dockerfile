# Every image of Kedge, one target each: `docker build --target sklearnserver -t kedge/sklearnserver .`
# What is built stays in its stage: an image has Python, one virtual environment, and no tools.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/kedge
ENV PATH=/opt/kedge/bin:$PATH
COPY pyproject.toml README.md LICENSE ./
COPY src src

FROM python:${PYTHON}-slim AS runtime
# The base image comes without the library's byte code: each start would compile it anew.
RUN useradd --uid 65532 --user-group --no-create-home --home-dir /tmp kedge \
    && python -m compileall -qq -x site-packages /usr/local/lib
ENV HOME=/tmp PATH=/opt/kedge/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 65532:65532

FROM runtime AS openmp
USER 0
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
USER 65532:65532

FROM build AS build-control
RUN pip install --no-cache-dir '.[control]' \
    && cp "$(python -c 'from kedge.gateway.bootstrap import find_envoy; print(find_envoy())')" /envoy

FROM runtime AS controller
COPY --from=build-control /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge"]

FROM controller AS gateway

FROM runtime AS envoy
COPY --from=build-control /envoy /usr/local/bin/envoy
ENTRYPOINT ["envoy"]

FROM build AS build-storage
RUN pip install --no-cache-dir .

FROM runtime AS storage-initializer
COPY --from=build-storage /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge.storage"]

FROM build AS build-server
RUN pip install --no-cache-dir '.[server]'

FROM runtime AS python
COPY --from=build-server /opt/kedge /opt/kedge
ENTRYPOINT ["python"]

FROM python AS pythonserver
ENTRYPOINT ["python", "-m", "kedge", "serve", "python"]

FROM build-server AS build-sklearn
RUN pip install --no-cache-dir '.[server,sklearn]'

FROM runtime AS sklearnserver
COPY --from=build-sklearn /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge", "serve", "sklearn"]

FROM build-server AS build-xgboost
RUN pip install --no-cache-dir '.[server,xgboost]'

FROM openmp AS xgbserver
COPY --from=build-xgboost /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge", "serve", "xgboost"]

FROM build-server AS build-lightgbm
RUN pip install --no-cache-dir '.[server,lightgbm]'

FROM openmp AS lgbserver
COPY --from=build-lightgbm /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge", "serve", "lightgbm"]

FROM build-server AS build-catboost
RUN pip install --no-cache-dir '.[server,catboost]'

FROM runtime AS catboostserver
COPY --from=build-catboost /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge", "serve", "catboost"]

FROM build-server AS build-onnx
RUN pip install --no-cache-dir '.[server,onnx]'

FROM runtime AS onnxserver
COPY --from=build-onnx /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge", "serve", "onnx"]

FROM build-server AS build-pytorch
RUN pip install --no-cache-dir '.[server,pytorch]'

FROM runtime AS pytorchserver
COPY --from=build-pytorch /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge", "serve", "pytorch"]

FROM build-server AS build-huggingface
RUN pip install --no-cache-dir '.[server,huggingface]'

FROM runtime AS huggingfaceserver
COPY --from=build-huggingface /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge", "serve", "huggingface"]

FROM build-server AS build-mlflow
RUN pip install --no-cache-dir '.[server,mlflow]'

FROM runtime AS mlflowserver
COPY --from=build-mlflow /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge", "serve", "mlflow"]

FROM build-server AS build-tensorflow
RUN pip install --no-cache-dir '.[server,tensorflow]'

FROM runtime AS tensorflowserver
COPY --from=build-tensorflow /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge", "serve", "tensorflow"]

FROM build-server AS build-paddle
RUN pip install --no-cache-dir '.[server,paddle]'

FROM openmp AS paddleserver
COPY --from=build-paddle /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge", "serve", "paddle"]

FROM build-server AS build-pmml
RUN pip install --no-cache-dir '.[server,pmml]'

FROM runtime AS pmmlserver
COPY --from=build-pmml /opt/kedge /opt/kedge
ENTRYPOINT ["python", "-m", "kedge", "serve", "pmml"]
