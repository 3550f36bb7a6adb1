"""What MLflow runs to get the model of a saved integer network."""

from mlflow.models import set_model

from quantbench.report.server.model import IntegerNetwork

set_model(IntegerNetwork())
